-- A UUID of version 7 (RFC 9562): 48 bits of Unix milliseconds, then random, so that ids sort by
-- their time of creation. Postgres 18 has uuidv7(); 15 to 17 have not.
create or replace function new_id() returns uuid
language sql volatile parallel safe as $$
    select encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid()) placing
                substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6),
            52, 1), 53, 1), 'hex')::uuid
$$;
