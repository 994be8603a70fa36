-- Whether an event is wanted by one of these patterns, in which * stands for anything.
create or replace function event_matches(p_name text, p_patterns text[]) returns boolean
language sql immutable set search_path from current as $$
    select exists (
        select from unnest(p_patterns) as p(pattern)
        where p_name like replace(replace(replace(p.pattern, '\', '\\'), '_', '\_'), '*', '%'))
$$;
