-- The part of advance() for whatever it and divert() have left: what is paused, lines side by side, waiting,
-- skipping, choosing, asking after what is in doubt, failures that a saga does not mind, and the end of
-- a saga that somebody waits for. One outcome after the other; advance() and divert() know the common
-- cases for many at once. The arguments and the answer are those of advance(), the answer only for what
-- it applied. More outcomes:
--
--   skipped   the step's condition did not hold
--   chosen    p_results: the place of the alternative, from 0, null for none
--   branched  a parallel group begins; or, p_results: the elements for each of which the step runs
--   waiting   p_results: see line_waits()
--   suspended a person has to look
create or replace function step_on(
    p_now timestamptz, p_worker uuid, p_commands uuid[], p_fences integer[], p_outcomes text[], p_results json[],
    p_took real[], p_errors jsonb[], p_no_effect boolean[], p_give_up boolean[], p_counted boolean[],
    p_after interval[], p_doubt_for interval[])
returns table (
    command uuid, verdict text, status text, fence integer, seq integer, kind text, step text,
    ordinal integer, attempt integer, revision integer, in_doubt boolean, element integer)
language plpgsql set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off
set enable_hashjoin to off set enable_mergejoin to off set jit to off as $$
#variable_conflict use_column
declare
    v_setting setting;
    v_mine uuid[];
    g record;
    l outbox;
    s definition_step;
    v_saga uuid;
    v_failing boolean;
begin
    if exists (select from gate) then
        return query
            select * from end_counted(p_now, p_worker, p_commands, p_fences, p_outcomes, p_results, p_took);
    end if;
    v_mine := array(
        select o.id from unnest(p_commands, p_fences) as g(command, fence)
        cross join lateral (select o.* from outbox o where o.id = g.command offset 0) as o
        where o.fence = g.fence and o.worker = p_worker);
    if cardinality(v_mine) = 0 then
        return;
    end if;
    select * into strict v_setting from setting;
    perform lock_sagas(v_mine);
    for g in
        select * from unnest(p_commands, p_fences, p_outcomes, p_results, p_errors, p_no_effect,
                             p_give_up, p_counted, p_after, p_doubt_for, p_took)
            as u(command, fence, outcome, result, error, no_effect, give_up, counted, after, doubt_for, took)
        where u.command = any (v_mine) order by u.command
    loop
        select o.* into l from outbox o where o.id = g.command and o.fence = g.fence and o.worker = p_worker;
        continue when not found;
        select d.* into strict s from definition_step d
        where d.type = l.type and d.version = l.version and d.name = l.step;
        v_saga := coalesce(l.root, l.id);
        v_failing := (select m.abort from outbox m where m.id = v_saga);

        if g.outcome in ('done', 'skipped', 'chosen') then
            perform line_succeeds(l, s, g.outcome, g.result, g.took, p_worker, v_failing, p_now);
        elsif g.outcome in ('branched', 'waiting') and v_failing then
            perform record(l, l.kind, 'skipped', p_now, p_took => g.took, p_worker => p_worker);
            perform line_stopped(l.id, null, p_worker, p_now);
        elsif g.outcome = 'branched' then
            perform line_branches(l, s, g.result, g.took, p_worker, p_now);
        elsif g.outcome = 'waiting' then
            perform line_waits(l, g.result::jsonb, g.took, p_worker, p_now);
        elsif g.outcome = 'suspended' then
            perform line_suspends(l, g.error, g.took, p_worker, p_now);
        else
            perform line_fails(
                l, s, v_setting, g.outcome, g.error, g.took, coalesce(g.no_effect, false),
                coalesce(g.give_up, false), coalesce(g.counted, true), g.after, g.doubt_for, p_worker,
                v_failing, p_now);
        end if;
        perform show_move(v_saga);

        return query
            select g.command, 'applied', coalesce(i.status, m.status::text), k.fence,
                coalesce(m.seq, (select max(t.seq) from transition t where t.saga_id = i.id)), k.kind::text, k.step,
                k.ordinal, k.attempt + 1, k.revision, k.doubt_until is not null, k.element
            from instance i
            left join outbox m on m.id = i.id
            left join outbox k on k.id = g.command and k.worker = p_worker and k.fence = g.fence + 1
            where i.id = v_saga;
    end loop;
end $$;
