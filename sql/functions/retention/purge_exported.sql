-- Removes finished sagas that were exported, and ended before the same instant. Returns how many were
-- removed: not those that somebody has locked, or that have lived again since.
create or replace function purge_exported(p_sagas uuid[], p_before timestamptz) returns integer
language sql security definer set search_path from current as $$ select forget_sagas(p_sagas, p_before) $$;
