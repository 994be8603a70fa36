-- Ends sagas whose deadline has passed: they are undone or, once their pivot is done, suspended. What is
-- in flight finishes first.
create or replace function expire(p_now timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_saga uuid;
    v_main outbox;
    v_error jsonb;
    v_deadline timestamptz;
begin
    for v_saga, v_deadline in
        select d.saga_id, d.at from deadline d where d.at < p_now order by d.at limit 100 for update skip locked
    loop
        continue when not try_saga(v_saga);  -- somebody moves it just now
        select * into v_main from outbox where id = v_saga;
        if v_main.id is null or v_main.kind = 'compensation' or v_main.status = 'SUSPENDED' then
            delete from deadline where saga_id = v_saga;
            continue;
        end if;
        v_error := jsonb_build_object('type', 'DeadlineExceeded', 'message', format('the saga had to end by %s', v_deadline));
        if exists (
            select from definition_step s where s.type = v_main.type and s.version = v_main.version
              and s.name = v_main.step and s.after_pivot)
        then
            continue when v_main.worker is not null or exists (
                select from outbox where root = v_saga and worker is not null);
            perform record_act(v_main, 'deadline', v_error ->> 'message', v_error, p_now, p_actor => 'engine');
            update outbox
            set status = 'SUSPENDED', reason = format('%s, and is past its pivot', v_error ->> 'message'),
                fence = fence + 1, moved_at = p_now
            where (id = v_saga or root = v_saga) and awaits is distinct from 'lines';
        else
            perform record_act(v_main, 'deadline', v_error ->> 'message', v_error, p_now, p_actor => 'engine');
            perform abort_saga(v_main, v_error, p_now);
        end if;
        perform show_move(v_saga);
        delete from deadline where saga_id = v_saga;
    end loop;
end $$;
