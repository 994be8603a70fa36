-- What the command's earlier attempts remembered under this name, as a row; none: nothing. Refuses a
-- worker that has lost the command, before it begins the sub-effect.
create or replace function recalled(p_worker uuid, p_command uuid, p_fence integer, p_name text)
returns table (result json) language plpgsql security definer set search_path from current
set plan_cache_mode to force_generic_plan set enable_seqscan to off set jit to off as $$
#variable_conflict use_column
declare
    v_line outbox;
begin
    select * into v_line from outbox o where o.id = p_command and o.fence = p_fence and o.worker = p_worker;
    if not found then
        raise exception 'command % is no longer this worker''s: it was slow, and taken for dead', p_command
            using errcode = 'SG007', hint = 'Another worker runs it, or will; begin nothing more.';
    end if;
    return query
        select r.result from once_result r
        where r.saga_id = coalesce(v_line.root, v_line.id) and r.command = v_line.id
          and r.ordinal = v_line.ordinal and r.kind = v_line.kind and r.name = p_name;
end $$;
