-- Of a URL what stands before a question mark: behind it there may be a secret.
create view subscriptions as
select s.name, s.patterns, coalesce(split_part(s.url, '?', 1), '') as url, s.created_at, s.actor, s.attempts, s.timeout,
    left_over.waiting, left_over.oldest, left_over.dead, s.disabled_at, s.disabled_why
from subscription s
left join lateral (
    select count(*) filter (where d.status = 'waiting') as waiting,
        min(e.at) filter (where d.status = 'waiting') as oldest,
        count(*) filter (where d.status = 'dead') as dead
    from delivery d join event e on e.number = d.event
    where d.subscription = s.name and d.status in ('waiting', 'dead')) as left_over on true;
comment on view subscriptions is 'Who is told of which events, and what is still on its way to them.';
