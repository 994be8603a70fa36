-- Refuses what a person gives as a step's result if it could not be stored.
create or replace function check_result(p_result json) returns void
language plpgsql set search_path from current as $$
declare
    v_most integer := (select max_result_bytes from setting);
begin
    perform p_result::jsonb;  -- refuses a NUL
    if octet_length(p_result::text) > v_most then
        raise exception 'the result has % bytes, the limit is % (setting.max_result_bytes)',
            octet_length(p_result::text), v_most using errcode = 'SG002', hint = 'Nothing was changed.';
    end if;
end $$;
