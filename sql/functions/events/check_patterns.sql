-- Refuses what are no patterns of event names.
create or replace function check_patterns(p_patterns text[]) returns void
language plpgsql set search_path from current as $$
declare
    v_bad text;
begin
    if coalesce(cardinality(p_patterns), 0) = 0 then
        raise exception 'a subscription needs at least one pattern of event names' using errcode = 'SG002',
            hint = 'All events: *, those of a kind: payment.*';
    end if;
    select coalesce(p.pattern, 'null') into v_bad from unnest(p_patterns) as p(pattern)
    where p.pattern is null or p.pattern !~ '^[A-Za-z0-9_.*-]{1,100}$' limit 1;
    if found then
        raise exception '"%" is no pattern of event names', v_bad using errcode = 'SG002',
            hint = 'Letters, digits, dots, dashes and underscores; * stands for anything: payment.*';
    end if;
end $$;
