-- The smallest id that new_id() can make at an instant: a time bound for a range of ids.
create or replace function first_id_at(p_at timestamptz) returns uuid
language sql immutable parallel safe as $$
    select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0')
            || '7000' || '8000000000000000')::uuid
$$;
