-- The ledger: entries are appended, never changed. Names are unqualified; whoever installs this
-- sets search_path to the schema, and the functions keep it.

CREATE TABLE IF NOT EXISTS entry (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    idempotency_key text NOT NULL CONSTRAINT a_key_posts_once UNIQUE,
    saga_id         uuid NOT NULL,
    merchant        text NOT NULL CONSTRAINT merchant_is_named CHECK (merchant <> ''),
    amount_minor    bigint NOT NULL CONSTRAINT amount_is_positive CHECK (amount_minor > 0),
    currency        text NOT NULL CONSTRAINT currency_is_iso_4217 CHECK (currency ~ '^[a-z]{3}$'),
    direction       text NOT NULL
                    CONSTRAINT direction_is_debit_or_credit
                    CHECK (direction IN ('debit', 'credit')),
    reverses        bigint CONSTRAINT a_debit_is_reversed_once UNIQUE,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT a_credit_reverses_a_debit CHECK ((direction = 'credit') = (reverses IS NOT NULL)),
    CONSTRAINT what_a_reversal_mirrors UNIQUE (id, saga_id, merchant, amount_minor, currency),
    CONSTRAINT a_reversal_mirrors_its_debit
        FOREIGN KEY (reverses, saga_id, merchant, amount_minor, currency)
        REFERENCES entry (id, saga_id, merchant, amount_minor, currency)
);

CREATE UNIQUE INDEX IF NOT EXISTS one_debit_a_saga ON entry (saga_id) WHERE direction = 'debit';

CREATE TABLE IF NOT EXISTS closed_merchant (
    merchant  text PRIMARY KEY,
    reason    text NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- LD001: the merchant is closed. LD002: the key stands for another entry.
CREATE OR REPLACE FUNCTION post_debit(
    p_idempotency_key text,
    p_saga_id         uuid,
    p_merchant        text,
    p_amount_minor    bigint,
    p_currency        text
) RETURNS SETOF entry
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_entry  entry;
    v_reason text;
BEGIN
    -- An entry that is there already counts, even if the merchant was closed since.
    SELECT * INTO v_entry FROM entry WHERE idempotency_key = p_idempotency_key;
    IF NOT FOUND THEN
        SELECT reason INTO v_reason FROM closed_merchant WHERE merchant = p_merchant;
        IF FOUND THEN
            RAISE EXCEPTION 'the account of merchant % is closed: %', p_merchant, v_reason
                USING ERRCODE = 'LD001',
                      HINT = 'Open it by deleting its row in closed_merchant, then pay again.';
        END IF;
        INSERT INTO entry (idempotency_key, saga_id, merchant, amount_minor, currency, direction)
        VALUES (p_idempotency_key, p_saga_id, p_merchant, p_amount_minor, p_currency, 'debit')
        ON CONFLICT (idempotency_key) DO NOTHING
        RETURNING * INTO v_entry;
        IF NOT FOUND THEN
            -- Another transaction posted it while this one waited; a new statement sees it.
            SELECT * INTO STRICT v_entry FROM entry WHERE idempotency_key = p_idempotency_key;
        END IF;
    END IF;
    IF (v_entry.saga_id, v_entry.merchant, v_entry.amount_minor, v_entry.currency,
        v_entry.direction)
       IS DISTINCT FROM (p_saga_id, p_merchant, p_amount_minor, p_currency, 'debit')
    THEN
        RAISE EXCEPTION 'idempotency key % was used for another entry, number %',
            p_idempotency_key, v_entry.id
            USING ERRCODE = 'LD002', HINT = 'Use a key of its own for every entry.';
    END IF;
    RETURN NEXT v_entry;
END
$$;

-- Posts the credit that takes back a saga's debit; no row when there is no debit.
CREATE OR REPLACE FUNCTION post_reversal(p_idempotency_key text, p_saga_id uuid)
RETURNS SETOF entry
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_debit    entry;
    v_reversal entry;
BEGIN
    SELECT * INTO v_debit FROM entry WHERE saga_id = p_saga_id AND direction = 'debit';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO entry (idempotency_key, saga_id, merchant, amount_minor, currency, direction,
                       reverses)
    VALUES (p_idempotency_key, v_debit.saga_id, v_debit.merchant, v_debit.amount_minor,
            v_debit.currency, 'credit', v_debit.id)
    ON CONFLICT DO NOTHING
    RETURNING * INTO v_reversal;
    IF NOT FOUND THEN
        SELECT * INTO v_reversal FROM entry WHERE reverses = v_debit.id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'idempotency key % was used for another entry', p_idempotency_key
                USING ERRCODE = 'LD002', HINT = 'Use a key of its own for every entry.';
        END IF;
    END IF;
    RETURN NEXT v_reversal;
END
$$;
