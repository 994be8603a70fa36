-- A saga has failed by what its history says last: as saga_stops(), but the line that failed is done with.
create or replace function saga_fails(p_saga uuid, p_worker uuid, p_now timestamptz) returns void
language plpgsql set search_path from current as $$
declare
    v_main outbox;
begin
    select * into strict v_main from outbox where id = p_saga;
    if v_main.lines is null then
        perform saga_undoes(p_saga, v_main.ordinal + 1, p_worker, null, p_now);
    else
        perform saga_stops(p_saga, p_worker, null, p_now);
    end if;
end $$;
