-- Limits a saga type: p_amount of its sagas run at once, for each value that stands in the input at the
-- path p_key if one is given; or, with p_per, so many begin in a period. A saga counts from its first
-- claim to its end, and while it waits for a signal, an instant, another saga or a person only if
-- p_counts_waiting. Effective at once; what runs beyond a lowered limit comes to its end.
create or replace function set_limit(
    p_type text, p_name text, p_amount integer, p_key text default null, p_per interval default null,
    p_counts_waiting boolean default false, p_note text default null)
returns void language plpgsql security definer set search_path from current as $$
begin
    if not exists (select from definition where type = p_type) then
        raise exception 'unknown saga type "%"', p_type using errcode = 'SG001',
            hint = 'Registered: ' || coalesce((select string_agg(distinct type, ', ') from definition), 'none yet');
    elsif p_name is null or p_name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,99}$' then
        raise exception '"%" is no name of a limit: a letter and up to 99 letters, digits, _ . or -', p_name
            using errcode = 'SG002';
    elsif p_amount is null or p_amount < 0 then
        raise exception 'limit "%" of saga type "%": the amount is %, but it is 0 or more', p_name, p_type, p_amount
            using errcode = 'SG002', hint = 'To have no limit: select drop_limit(…).';
    elsif p_per <= '0' then
        raise exception 'limit "%" of saga type "%": the period is %, but it is more than 0', p_name, p_type, p_per
            using errcode = 'SG002';
    elsif p_per is not null and (p_key is not null or p_counts_waiting) then
        raise exception 'limit "%" of saga type "%" has a period, so it counts starts: of the whole type, not for each "%"',
            p_name, p_type, p_key using errcode = 'SG002', hint = 'Leave out p_key and p_counts_waiting, or p_per.';
    end if;
    perform put_limit(p_type, p_name, p_amount, p_per, p_key, coalesce(p_counts_waiting, false), null, p_note);
end $$;
comment on function set_limit is 'At most so many sagas of a type at once, or in a period: select saga.set_limit(''payment'', ''customer'', 1, ''customer'')';
