-- Operator act: runs what failed again, now and with its whole policy: a suspended saga's command, or
-- those of its lines that are suspended; or what waits for its next attempt, without the wait.
create or replace function retry(p_saga uuid, p_note text, p_seq integer default null) returns text
language plpgsql security definer set search_path from current as $$
declare
    v_row outbox := operator_lock(p_saga, p_seq, p_note);
    v_now timestamptz := clock();
    v_line outbox;
    v_found boolean := false;
begin
    if v_row.worker is not null then
        raise exception 'saga % is running step "%" on worker % now', p_saga, v_row.step, v_row.worker
            using errcode = 'SG005', hint = 'Nothing was changed.';
    elsif v_row.status = 'CREATED' then
        raise exception 'saga % has not begun: no worker has taken it', p_saga
            using errcode = 'SG005', hint = 'Start a worker that runs this type; nothing was changed.';
    end if;
    for v_line in
        select * from outbox
        where (id = p_saga or root = p_saga) and worker is null
          and (status = 'SUSPENDED' or (awaits is null and not exists (
                  select from outbox o where (o.id = p_saga or o.root = p_saga) and o.status = 'SUSPENDED')))
        order by id
    loop
        v_found := true;
        perform record_act(v_line, 'retry', p_note, null, v_now);
        perform line_again(v_line, v_now);
        perform show_move(p_saga);
    end loop;
    if not v_found then
        raise exception 'saga % waits (%) and nothing of it has failed', p_saga, coalesce(
            (select string_agg(distinct format('step "%s" for %s', o.step, coalesce(o.awaits, 'a worker')), ', ')
             from outbox o where (o.id = p_saga or o.root = p_saga) and o.awaits is distinct from 'lines'), 'for nothing')
            using errcode = 'SG005', hint = 'Nothing was changed.';
    end if;
    perform wake(v_row.type);
    return (select status from outbox where id = p_saga);
end $$;
comment on function retry is 'Operator act: run a suspended saga''s failed step again now: select saga.retry(id, ''why'')';
