create view completion_rate as
select type, started_at as hour, started, completed, failed, suspended, live, rate
from completion_rate_since('24 hours');
comment on view completion_rate is 'Of the last 24 hours, by type and hour of start: how many sagas started, and what became of them. Other windows: completion_rate_since().';
