-- The smallest id that new_id() can make at an instant: a time bound for a range of ids. Ids count from 1970
-- (RFC 9562), so of what lies before it is the smallest of all.
create or replace function first_id_at(p_at timestamptz) returns uuid
language sql immutable parallel safe as $$
    select case when p_at < 'epoch' then '00000000-0000-7000-8000-000000000000'::uuid
        else (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0')
            || '7000' || '8000000000000000')::uuid end
$$;
