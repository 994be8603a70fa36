create view health as
select f.severity, f.finding, f.subject, f.detail, f.remedy
from (
    select * from health_of_commands()
    union all
    select * from health_of_events()
    union all
    select * from health_of_tables()) as f
order by array_position('{error,warning,info}'::text[], f.severity), f.finding, f.subject;
comment on view health is 'One row a finding: how bad, what, and what to do about it. None: all is well.';
comment on column health.severity is 'error (somebody has to act), warning, or info.';
comment on column health.subject is 'What it is about: a type, a session, a table.';
comment on column health.remedy is 'What to do about it.';
