create view completion_rate as
select type, started_at as hour, started, completed, failed, suspended, live, rate
from completion_rate_since('24 hours');
comment on view completion_rate is 'Of the last 24 hours, by type and hour of start: how many sagas started, and what became of them. Other windows: completion_rate_since().';
comment on column completion_rate.hour is 'Of the sagas'' start.';
comment on column completion_rate.live is 'Of these, still alive; the suspended ones too.';
comment on column completion_rate.rate is 'completed / (completed + failed + suspended); null: none has come to anything.';
