create view schedules as
select name, type, cron, zone, catch_up, paused, last_tick, case when not paused then next_tick end as next_tick, input
from schedule;
comment on view schedules is 'The recurring sagas.';
