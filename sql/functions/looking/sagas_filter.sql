-- Reads a filter of find_sagas(): what it asks for, with a message where that cannot be.
create or replace function sagas_filter(
    p_filter jsonb, out type text, out statuses text[], out state text, out step text, out error text,
    out key text, out key_prefix text, out older_than interval, out younger_than interval)
language plpgsql stable set search_path from current as $$
declare
    v_unknown text;
begin
    if jsonb_typeof(p_filter) is distinct from 'object' then
        raise exception 'the filter must be a JSON object, not %', coalesce(jsonb_typeof(p_filter), 'null')
            using errcode = 'SG002';
    end if;
    select string_agg(k, ', ') into v_unknown from jsonb_object_keys(p_filter) as k
    where k not in ('type', 'status', 'state', 'step', 'error', 'key', 'key_prefix', 'older_than', 'younger_than');
    if v_unknown is not null then
        raise exception 'the filter does not know: %', v_unknown using errcode = 'SG002',
            hint = 'It knows type, status, state, step, error, key, key_prefix, older_than and younger_than.';
    end if;
    type := p_filter ->> 'type';
    state := p_filter ->> 'state';
    step := p_filter ->> 'step';
    error := p_filter ->> 'error';
    key := p_filter ->> 'key';
    key_prefix := nullif(p_filter ->> 'key_prefix', '');
    statuses := case jsonb_typeof(p_filter -> 'status')
        when 'array' then array(select upper(s) from jsonb_array_elements_text(p_filter -> 'status') as s)
        when 'string' then array[upper(p_filter ->> 'status')] end;
    statuses := nullif(statuses, '{}');
    select string_agg(s, ', ') into v_unknown from unnest(statuses) as s
    where s not in ('CREATED', 'EXECUTING', 'COMPENSATING', 'SUSPENDED', 'COMPLETED', 'FAILED');
    if v_unknown is not null then
        raise exception 'there is no status %', v_unknown using errcode = 'SG002',
            hint = 'There are CREATED, EXECUTING, COMPENSATING, SUSPENDED, COMPLETED and FAILED.';
    end if;
    begin
        older_than := p_filter ->> 'older_than';
        younger_than := p_filter ->> 'younger_than';
    exception when data_exception then
        raise exception 'the filter cannot be read: %', sqlerrm using errcode = 'SG002',
            hint = 'older_than and younger_than are intervals such as "1 hour".';
    end;
end $$;
