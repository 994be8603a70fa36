-- A command waits: until an instant, for a signal, or for the end of another saga, which is started by
-- the first attempt to wait for it. p_plan: {"await": "time" | "signal" | "saga", "until": …} and, to
-- start a saga, its "type", "version", "key" and "input".
create or replace function line_waits(p_line outbox, p_plan jsonb, p_took real, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_saga uuid := coalesce((p_line).root, (p_line).id);
    v_awaits text := p_plan ->> 'await';
    v_until timestamptz := coalesce(
        (p_plan ->> 'until')::timestamptz, p_now + make_interval(secs => (p_plan ->> 'seconds')::float8), 'infinity');
    v_child uuid;
    v_signal signal;
begin
    if v_awaits = 'signal' then
        -- What it took before, and did not go on with, counts no more: kept under minus its ordinal.
        update signal set ordinal = -ordinal where saga_id = v_saga and ordinal = (p_line).ordinal;
        select g.* into v_signal from signal g
        join definition_step s on s.type = (p_line).type and s.version = (p_line).version
            and s.name = (p_line).step and g.name = s.signal
        where g.saga_id = v_saga and g.ordinal is null
        order by g.number limit 1;
        if found then
            update signal set ordinal = (p_line).ordinal
                where saga_id = v_saga and number = v_signal.number;
            v_until := p_now;
        end if;
    elsif v_awaits = 'saga' then
        -- The undo runs on the main line, whichever line the action ran on.
        update child set line = (p_line).id
        where saga_id = (
            select c.saga_id from child c
            where c.parent = v_saga and c.ordinal = coalesce((p_line).undoes, (p_line).ordinal)
            order by c.saga_id desc limit 1)
        returning saga_id into v_child;
        if p_plan ? 'type' then
            v_child := start(
                p_plan ->> 'type', p_plan -> 'input', p_plan ->> 'key', (p_plan ->> 'version')::integer);
            insert into child (saga_id, parent, ordinal, line)
                values (v_child, v_saga, (p_line).ordinal, (p_line).id)
                on conflict (saga_id) do nothing;
            update outbox set tail = true where id = v_child;
        elsif (p_line).kind = 'compensation' then
            perform undo_child(v_child, p_now);
        end if;
        if not exists (select from outbox where id = v_child) then
            v_until := p_now;
        end if;
    end if;
    perform record(p_line, (p_line).kind, 'waiting', p_now, p_took => p_took, p_worker => p_worker,
        p_due_at => nullif(v_until, 'infinity'),
        p_result => case when v_child is not null then json_build_object('saga_id', v_child) end);
    update outbox
    set awaits = v_awaits, due_at = v_until, attempt = attempt + 1, worker = null, deadline = null,
        fence = fence + 1
    where id = (p_line).id;
    perform wake((p_line).type);
end $$;
