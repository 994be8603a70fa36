-- Notes that somebody has changed what holds for many sagas; nothing, if it is as it was.
create or replace function note_change(
    p_rule text, p_act text, p_type text, p_name text, p_note text, p_before jsonb, p_after jsonb)
returns void language sql set search_path from current as $$
    insert into rule_change (at, rule, act, type, name, actor, note, before, after)
    select clock(), p_rule, p_act, p_type, p_name, actor(), nullif(trim(p_note), ''), p_before, p_after
    where p_before is distinct from p_after
$$;
