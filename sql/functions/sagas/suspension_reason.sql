-- Why a saga waits for a person, for that person. Inlined.
create or replace function suspension_reason(p_kind text, p_step text, p_outcome text, p_attempt integer)
returns text language sql stable as $$
    select case
        when p_kind = 'compensation' then format('the compensation of step "%s" failed for good after %s attempt%s', p_step, p_attempt, case when p_attempt <> 1 then 's' end)
        when p_outcome = 'in_doubt' then format('step "%s" was left in doubt at or after the pivot, after %s attempt%s', p_step, p_attempt, case when p_attempt <> 1 then 's' end)
        else format('step "%s" failed for good after the pivot, after %s attempt%s', p_step, p_attempt, case when p_attempt <> 1 then 's' end) end
$$;
