-- Whether a saga of this type is paused, by itself or with others; without a saga, whether the whole
-- type is. Asked only while setting.pauses says that anything is.
create or replace function is_paused(p_saga uuid, p_type text) returns boolean
language sql stable set search_path from current as $$
    select exists (select from pause p where p.saga_id = p_saga and p.resumed_at is null)
        or exists (
            select from pause p
            where p.saga_id is null and p.resumed_at is null and coalesce(p.type, '') in ('', p_type))
$$;
