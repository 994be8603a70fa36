-- What people did about suspended sagas, the latest first: the acts on such a step, after such an error (its
-- type), whose note or error has these words; and what became of it. All of it as long as the history is kept.
create or replace function past_resolutions(
    p_step text default null, p_error text default null, p_words text default null)
returns table (
    saga_id uuid, type text, key text, step text, reason text, error jsonb, act text, actor text, note text,
    at timestamptz, detail jsonb, led_to text, status text)
language sql stable security definer set search_path from current as $$
    select a.saga_id, i.type, i.key, a.step, a.reason, a.error, a.act, a.actor, a.note, a.at, a.detail,
        coalesce(after.what, t.to_status::text), coalesce(i.status, o.status::text)
    from act a
    join instance i on i.id = a.saga_id
    join transition t on t.saga_id = a.saga_id and t.seq = a.seq
    left join outbox o on o.id = a.saga_id
    left join lateral (
        select format('%s%s: %s', case n.kind when 'compensation' then 'undo of ' else '' end, n.step, n.outcome) as what
        from transition n
        where n.saga_id = a.saga_id and n.seq > a.seq and n.kind <> 'act' and t.to_status not in ('COMPLETED', 'FAILED')
        order by n.seq limit 1) as after on true
    where a.step is not null
      and (p_step is null or a.step = p_step)
      and (p_error is null or a.error ->> 'type' = p_error)
      and (p_words is null or to_tsvector('english',
            a.note || ' ' || coalesce(a.reason, '') || ' ' || coalesce(a.error ->> 'type', '') || ' '
            || coalesce(a.error ->> 'message', '')) @@ websearch_to_tsquery('english', p_words))
    order by a.at desc
$$;
comment on function past_resolutions is 'What was done about suspended sagas before: select * from saga.past_resolutions(p_words => ''insufficient funds'')';
