-- A saga has ended: its main line goes, its instance keeps the end, and who waits for it is told. The
-- output is the last step's result; of best-effort steps that failed, a completed saga says which.
create or replace function saga_ends(p_saga uuid, p_status text, p_error jsonb, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_main outbox;
    v_output json;
    v_error jsonb := p_error;
    v_state text;
begin
    delete from outbox where id = p_saga returning * into strict v_main;
    if p_status = 'COMPLETED' then
        select t.result into v_output from transition t
        where t.saga_id = p_saga and t.kind in ('action', 'reconcile', 'act') order by t.seq desc limit 1;
        select jsonb_build_object('type', 'BestEffort', 'message', format(
                'failed for good, which this saga does not mind: %s', string_agg(b.step, ', ' order by b.seq)))
        into v_error
        from (
            select distinct on (t.ordinal) t.step, t.outcome, t.seq
            from transition t
            where t.saga_id = p_saga and t.kind in ('action', 'reconcile') order by t.ordinal, t.seq desc) as b
        join definition_step s on s.type = v_main.type and s.version = v_main.version and s.name = b.step
        where s.best_effort and b.outcome in ('rejected', 'in_doubt')
        having count(*) > 0;
    elsif v_error is null then
        -- What began the undoing: somebody's will, or the first failure for good.
        select t.error into v_error from transition t
        where t.saga_id = p_saga and t.kind <> 'compensation' and t.error is not null
          and t.error ->> 'type' <> 'Stopped'
        order by t.kind = 'act' desc, t.seq desc limit 1;
        v_error := coalesce(v_error, '{"type": "Aborted"}');
    end if;
    v_state := case when v_error ->> 'type' = 'Cancelled' then 'CANCELLED' else p_status end;
    update instance set status = p_status, state = v_state, ended_at = p_now, output = v_output, error = v_error
    where id = p_saga;
    if p_status = 'FAILED' then
        insert into failure (saga_id, type, step, error, state, ended_at)
        values (p_saga, v_main.type, coalesce((
                select t.step from transition t
                where t.saga_id = p_saga and t.kind <> 'compensation' and t.error is not null
                  and t.error ->> 'type' <> 'Stopped'
                order by t.kind = 'act' desc, t.seq desc limit 1), v_main.step),
            coalesce(v_error ->> 'type', 'Unknown'), v_state, p_now);
    end if;
    -- That nothing is paused any more is noted later: the row of setting is locked before those of outbox.
    update pause set resumed_at = p_now, resumed_by = 'engine', resume_note = 'the saga has ended'
        where saga_id = p_saga and resumed_at is null;
    if v_main.tail then
        perform saga_ended(v_main, p_now);
    end if;
end $$;
