-- The event that was taken under this fence has been delivered. False: somebody else has taken it
-- meanwhile, who delivers it again.
create or replace function delivered(p_subscription text, p_saga uuid, p_event bigint, p_fence integer)
returns boolean language plpgsql security definer set search_path from current set jit to off as $$
declare
    v_now timestamptz := clock();
begin
    update lane l set busy_until = null, due_at = v_now
    where l.subscription = p_subscription and l.saga_id = p_saga and l.fence = p_fence and l.busy_until is not null;
    if not found then
        return false;
    end if;
    update delivery d set status = 'delivered', attempts = d.attempts + 1, error = null, at = v_now
    where d.saga_id = p_saga and d.subscription = p_subscription and d.event = p_event;
    return true;
end $$;
