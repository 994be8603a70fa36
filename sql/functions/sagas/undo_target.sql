-- The next command to undo in a saga: of the actions created before p_before that were done or left
-- in doubt, the last one whose step has a compensation. Whether an action that was in doubt had its
-- effect is known once its reconcile was answered. Without a SET clause, so that it is inlined into its
-- callers, which pin their search_path.
create or replace function undo_target(p_saga uuid, p_type text, p_version integer, p_before integer)
returns table (ordinal integer, step text, element integer) language sql stable as $$
    select t.ordinal, t.step, t.element
    from (
        select distinct on (h.ordinal) h.ordinal, h.step, h.outcome, h.element
        from transition h
        where h.saga_id = p_saga and h.kind in ('action', 'reconcile') and h.ordinal < p_before
        order by h.ordinal desc, h.seq desc
    ) as t
    join definition_step u on u.type = p_type and u.version = p_version and u.name = t.step
    where u.undo and t.outcome in ('done', 'in_doubt')
    order by t.ordinal desc
    limit 1
$$;
