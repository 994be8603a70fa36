-- The first statement of whatever pauses or resumes, before any row of outbox is locked: one at a time.
create or replace function pauses_lock(p_note text) returns void
language plpgsql set search_path from current as $$
begin
    if coalesce(trim(p_note), '') = '' then
        raise exception 'an operator act needs a note that says why' using errcode = 'SG002';
    end if;
    perform 1 from setting for no key update;
end $$;
