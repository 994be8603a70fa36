-- Exponential backoff with full jitter: a random time below min(cap, base * 2^failures). From
-- "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Inlined.
create or replace function retry_delay(p_base interval, p_cap interval, p_failures integer)
returns interval language sql volatile as $$
    select random() * least(p_cap, p_base * power(2, least(p_failures, 30)))
$$;
