-- Makes a saga fail whose main line nobody runs: no line begins anything more. Those that run end
-- first, and what is in doubt and can be asked after is asked; the last of them, or this call if there
-- are none, has the saga undone.
create or replace function saga_stops(p_saga uuid, p_worker uuid, p_error jsonb, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_line outbox;
    v_main outbox;
    v_running integer := 0;
    v_stopped constant jsonb := '{"type": "Stopped", "message": "the saga failed while the effect of this step was in doubt"}';
    v_in_doubt boolean;
    v_asks boolean;
    v_undo boolean;
begin
    for v_line in
        select * from outbox where (root = p_saga or id = p_saga) and kind <> 'compensation' order by id
    loop
        v_in_doubt := v_line.awaits = 'saga'
            or (v_line.doubt_until is not null and v_line.awaits is distinct from 'lines');
        v_asks := v_in_doubt and v_line.doubt_until is not null and exists (
            select from definition_step s
            where s.type = v_line.type and s.version = v_line.version and s.name = v_line.step and s.reconciles);
        if v_line.worker is not null then
            v_running := v_running + 1;
        elsif v_asks then
            update outbox
            set kind = 'reconcile', status = 'EXECUTING', reason = null, attempt = 0, failures = 0, deaths = 0,
                action_failures = 1000000, due_at = doubt_until, fence = fence + 1
            where id = v_line.id and kind = 'action';
            v_running := v_running + 1;
        else
            -- Of what is suspended the last word says it, unless it was a deadline that suspended it.
            if v_in_doubt and (v_line.status <> 'SUSPENDED' or 'in_doubt' is distinct from (
                select t.outcome from transition t
                where t.saga_id = p_saga and t.ordinal = v_line.ordinal and t.kind <> 'act'
                order by t.seq desc limit 1))
            then
                if v_line.root is null and v_line.status = 'SUSPENDED' then
                    update outbox set status = 'EXECUTING', reason = null where id = p_saga;
                    perform show_move(p_saga);
                end if;
                perform record(v_line, 'action', 'in_doubt', p_now, p_error => v_stopped);
            end if;
            select s.undo into v_undo from definition_step s
            where s.type = v_line.type and s.version = v_line.version and s.name = v_line.step;
            if v_undo then
                update outbox set doubt_until = greatest(doubt_until, v_line.doubt_until) where id = p_saga;
            elsif v_line.root is null and v_line.awaits is distinct from 'lines' then
                update outbox set doubt_until = null where id = p_saga;
            end if;
            delete from outbox where id = v_line.id and root is not null;
        end if;
    end loop;
    select * into strict v_main from outbox where id = p_saga;
    if v_running = 0 then
        perform saga_undoes(p_saga, v_main.ordinal + 1, p_worker, p_error, p_now);
    elsif v_main.kind = 'reconcile' or v_main.worker is not null then
        update outbox set abort = true where id = p_saga;
    else
        update outbox
        set abort = true, awaits = 'lines', lines = v_running, element = null, elements = null,
            due_at = 'infinity', fence = fence + 1
        where id = p_saga;
    end if;
end $$;
