-- A line of a saga that failed has come to the end of what it ran. The last of them has it undone.
create or replace function line_stopped(p_line uuid, p_doubt timestamptz, p_worker uuid, p_now timestamptz)
returns void language plpgsql set search_path from current as $$
declare
    v_line outbox;
    v_main outbox;
begin
    select * into strict v_line from outbox where id = p_line;
    if v_line.root is not null then
        delete from outbox where id = p_line;
    end if;
    update outbox
    set doubt_until = case when v_line.root is null then p_doubt else greatest(doubt_until, p_doubt) end,
        lines = case when v_line.root is null then lines else lines - 1 end
    where id = coalesce(v_line.root, p_line) returning * into v_main;
    if v_line.root is null or v_main.lines = 0 then
        perform saga_undoes(
            v_main.id, v_main.ordinal + 1, case when v_line.root is null then p_worker end, null, p_now);
    end if;
end $$;
