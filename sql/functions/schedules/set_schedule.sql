-- Sets a recurring saga, or changes it: of a type, with an input, whenever a cron expression (minute
-- hour day month weekday) holds in a time zone. p_catch_up says what becomes of the ticks that nobody
-- was there for: 'none' is started, the 'last' or 'all'. Each tick starts one saga, under the key
-- <name>/<tick, as an instant in UTC>. Ticks are counted from now on; what is changed begins anew.
create or replace function set_schedule(
    p_name text, p_type text, p_cron text, p_zone text default 'UTC', p_input jsonb default '{}',
    p_catch_up text default 'last', p_note text default null)
returns void language plpgsql security definer set search_path from current as $$
declare
    v_problem text;
    v_old schedule;
    v_new schedule;
begin
    if p_name is null or length(p_name) not between 1 and 200 then
        raise exception 'the name of a schedule has 1 to 200 characters, not %', coalesce(length(p_name), 0)
            using errcode = 'SG002';
    elsif p_cron is null or p_cron !~ '^\s*(\S+\s+){4}\S+\s*$' then
        raise exception 'schedule "%": "%" is not a cron expression of five fields', p_name, p_cron
            using errcode = 'SG002', hint = 'minute hour day month weekday: 30 2 * * mon-fri';
    elsif p_catch_up is null or p_catch_up not in ('none', 'last', 'all') then
        raise exception 'schedule "%": it catches up none, the last or all of its ticks, not "%"', p_name, p_catch_up
            using errcode = 'SG002';
    elsif not exists (select from pg_timezone_names where name = p_zone) then
        raise exception 'schedule "%": there is no time zone "%"', p_name, p_zone
            using errcode = 'SG002', hint = 'Such as Europe/Berlin: select name from pg_timezone_names.';
    end if;
    v_problem := start_problem(p_type, p_input);
    if v_problem is not null then
        raise exception 'schedule "%": %', p_name, v_problem using errcode = 'SG002';
    end if;
    select * into v_old from schedule where name = p_name for update;
    insert into schedule as s (name, type, cron, zone, input, catch_up, last_tick)
    values (p_name, p_type, p_cron, p_zone, p_input, p_catch_up, clock())
    on conflict (name) do update
    set type = excluded.type, cron = excluded.cron, zone = excluded.zone, input = excluded.input,
        catch_up = excluded.catch_up,
        last_tick = case when (s.cron, s.zone) = (excluded.cron, excluded.zone) then s.last_tick else excluded.last_tick end,
        next_tick = case when (s.cron, s.zone) = (excluded.cron, excluded.zone) then s.next_tick end
    returning * into v_new;
    perform note_change('schedule', 'set', p_type, p_name, p_note, schedule_rule(v_old), schedule_rule(v_new));
end $$;
comment on function set_schedule is 'Sets a recurring saga: select saga.set_schedule(''nightly'', ''report'', ''30 2 * * *'', ''Europe/Berlin'')';
