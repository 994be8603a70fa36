-- Why a held command is taken from its holder.
create or replace function lost_error(p_line outbox) returns jsonb
language sql stable set search_path from current as $$
    select case
        when exists (select from worker w where w.id = (p_line).worker)
            then jsonb_build_object('type', 'DeadlinePassed', 'message', format(
                'worker %s held this command past its deadline, %s', (p_line).worker, (p_line).deadline))
        else jsonb_build_object('type', 'WorkerDied', 'message', format(
                'worker %s stopped sending heartbeats while it held this command', (p_line).worker)) end
$$;
