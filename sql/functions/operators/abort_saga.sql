-- Has a saga undone, whatever it is at and past its pivot too. What runs finishes first.
create or replace function abort_saga(p_main outbox, p_error jsonb, p_now timestamptz) returns void
language plpgsql set search_path from current as $$
begin
    if (p_main).worker is not null then
        update outbox set abort = true where id = (p_main).id;
    else
        perform saga_stops((p_main).id, null, p_error, p_now);
    end if;
end $$;
