-- Remembers the result of a sub-effect for the command's further attempts, at once; what was remembered
-- first stays, and is the answer. Only for a worker that holds the command under that fence. The lock
-- on the row waits for nobody but its deletion, and keeps nobody but that waiting: an outcome that is
-- committed meanwhile is another attempt's, which finds what this one has done.
create or replace function remember(p_worker uuid, p_command uuid, p_fence integer, p_name text, p_result json)
returns json language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off set jit to off as $$
declare
    v_line outbox;
    v_most integer;
    v_result json;
begin
    select * into v_line from outbox o
    where o.id = p_command and o.fence = p_fence and o.worker = p_worker
    for key share;
    if not found then
        raise exception 'command % is no longer this worker''s: it was slow, and taken for dead', p_command
            using errcode = 'SG007',
                hint = format('What "%s" has come to was not remembered; begin nothing more.', p_name);
    end if;
    select s.max_result_bytes into strict v_most from setting s;
    if octet_length(p_result::text) > v_most then
        raise exception 'the result of "%" has % bytes, the limit is % (setting.max_result_bytes)',
            p_name, octet_length(p_result::text), v_most using errcode = 'SG002';
    end if;
    insert into once_result (saga_id, command, ordinal, kind, name, result, at)
    values (coalesce(v_line.root, v_line.id), v_line.id, v_line.ordinal, v_line.kind, p_name, p_result, clock())
    on conflict do nothing
    returning result into v_result;
    if not found then
        select r.result into strict v_result from once_result r
        where r.saga_id = coalesce(v_line.root, v_line.id) and r.command = v_line.id
          and r.ordinal = v_line.ordinal and r.kind = v_line.kind and r.name = p_name;
    end if;
    return v_result;
end $$;
