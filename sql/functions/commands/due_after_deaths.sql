-- When a command is due again whose holder has died, so many of them in all. After the first death at once:
-- somebody takes over. After more of them at random, within a time that doubles: one of those that the dead had
-- in hand together kills whoever runs it, and the others are to pass by it instead of dying with it again.
create or replace function due_after_deaths(p_deaths integer, p_now timestamptz) returns timestamptz
language sql volatile set search_path from current as $$
    select case when p_deaths < 2 then p_now
        else p_now + random() * least(2.0 ^ p_deaths, 300) * interval '1 second' end
$$;
