create view counts as
select type, status, count(*) as sagas from live group by type, status;
comment on view counts is 'How many sagas live, by type and status.';
