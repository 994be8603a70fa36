-- The ledger: entries are appended, never changed. Names are unqualified; whoever installs this
-- sets search_path to the schema, and the functions keep it.

CREATE TABLE IF NOT EXISTS entry (
    id              bigint GENERATED ALWAYS AS IDENTITY,
    amount_minor    bigint NOT NULL CONSTRAINT amount_is_positive CHECK (amount_minor > 0),
    reverses        bigint,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    saga_id         uuid NOT NULL,
    direction       text NOT NULL
                    CONSTRAINT direction_is_debit_or_credit
                    CHECK (direction IN ('debit', 'credit')),
    currency        text NOT NULL CONSTRAINT currency_is_iso_4217 CHECK (currency ~ '^[a-z]{3}$'),
    merchant        text NOT NULL CONSTRAINT merchant_is_named CHECK (merchant <> ''),
    idempotency_key text NOT NULL CONSTRAINT a_key_posts_once UNIQUE,
    CONSTRAINT one_debit_and_one_credit_a_saga PRIMARY KEY (saga_id, direction),
    CONSTRAINT a_credit_reverses_a_debit CHECK ((direction = 'credit') = (reverses IS NOT NULL))
);

-- By a trigger that fires for credits only: a foreign key would need an index of its own, which every
-- debit would pay for.
CREATE OR REPLACE FUNCTION refuse_false_reversal() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM entry
        WHERE saga_id = NEW.saga_id AND direction = 'debit' AND id = NEW.reverses
          AND (merchant, amount_minor, currency) = (NEW.merchant, NEW.amount_minor, NEW.currency))
    THEN
        RAISE EXCEPTION 'entry % is not the mirror of the debit that it reverses', NEW.id
            USING ERRCODE = 'integrity_constraint_violation',
                  CONSTRAINT = 'a_reversal_mirrors_its_debit';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER a_reversal_mirrors_its_debit AFTER INSERT OR UPDATE ON entry
    FOR EACH ROW WHEN (NEW.direction = 'credit') EXECUTE FUNCTION refuse_false_reversal();

CREATE TABLE IF NOT EXISTS closed_merchant (
    merchant  text PRIMARY KEY,
    reason    text NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE OR REPLACE FUNCTION refuse_clash(p_idempotency_key text, p_entry bigint) RETURNS text
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'idempotency key % was used for another entry, number %', p_idempotency_key, p_entry
        USING ERRCODE = 'LD002', HINT = 'Use a key of its own for every entry.';
END
$$;

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
    INSERT INTO entry (idempotency_key, saga_id, merchant, amount_minor, currency, direction)
    SELECT p_idempotency_key, p_saga_id, p_merchant, p_amount_minor, p_currency, 'debit'
    WHERE NOT EXISTS (SELECT FROM closed_merchant WHERE merchant = p_merchant)
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING * INTO v_entry;
    IF FOUND THEN
        RETURN NEXT v_entry;
        RETURN;
    END IF;
    -- A new statement: it sees what another transaction posted while this one waited. An entry that
    -- is there already counts, even if the merchant was closed since.
    SELECT * INTO v_entry FROM entry WHERE idempotency_key = p_idempotency_key;
    IF NOT FOUND THEN
        SELECT reason INTO v_reason FROM closed_merchant WHERE merchant = p_merchant;
        RAISE EXCEPTION 'the account of merchant % is closed: %', p_merchant, v_reason
            USING ERRCODE = 'LD001',
                  HINT = 'Open it by deleting its row in closed_merchant, then pay again.';
    END IF;
    IF (v_entry.saga_id, v_entry.merchant, v_entry.amount_minor, v_entry.currency,
        v_entry.direction)
       IS DISTINCT FROM (p_saga_id, p_merchant, p_amount_minor, p_currency, 'debit')
    THEN
        PERFORM refuse_clash(p_idempotency_key, v_entry.id);
    END IF;
    RETURN NEXT v_entry;
END
$$;

-- Posts many debits by one statement, in the order of the array: the number of each entry, be it new
-- or there already, or why it was refused. LD002: a key stands for another entry. The planner is kept
-- to the index, whatever it believed of the table's size when it made the plan.
CREATE OR REPLACE FUNCTION post_debits(p_debits jsonb)
RETURNS TABLE (entry_id bigint, refusal text)
LANGUAGE sql
SET search_path FROM CURRENT
SET enable_seqscan TO off
SET jit TO off
AS $$
    WITH given AS MATERIALIZED (
        SELECT g.*, e.id AS known, c.reason,
            (e.saga_id, e.merchant, e.amount_minor, e.currency, e.direction)
            IS DISTINCT FROM (g.saga_id, g.merchant, g.amount_minor, g.currency, 'debit') AS differs
        FROM ROWS FROM (
            jsonb_to_recordset(p_debits) AS (
                idempotency_key text, saga_id uuid, merchant text, amount_minor bigint, currency text)
        ) WITH ORDINALITY AS g(idempotency_key, saga_id, merchant, amount_minor, currency, place)
        LEFT JOIN LATERAL (
            SELECT * FROM entry WHERE idempotency_key = g.idempotency_key OFFSET 0) AS e ON true
        LEFT JOIN closed_merchant c ON c.merchant = g.merchant
    ),
    posted AS (
        INSERT INTO entry (idempotency_key, saga_id, merchant, amount_minor, currency, direction)
        SELECT g.idempotency_key, g.saga_id, g.merchant, g.amount_minor, g.currency, 'debit'
        FROM given g
        WHERE g.known IS NULL AND g.reason IS NULL
        ORDER BY g.idempotency_key
        RETURNING id, saga_id
    )
    SELECT coalesce(g.known, p.id),
        CASE WHEN g.known IS NOT NULL AND g.differs THEN refuse_clash(g.idempotency_key, g.known)
             WHEN g.known IS NULL AND g.reason IS NOT NULL
             THEN format('the account of merchant %s is closed: %s', g.merchant, g.reason) END
    FROM given g
    LEFT JOIN posted p ON p.saga_id = g.saga_id
    ORDER BY g.place
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
        SELECT * INTO v_reversal FROM entry WHERE saga_id = p_saga_id AND direction = 'credit';
        IF NOT FOUND THEN
            RAISE EXCEPTION 'idempotency key % was used for another entry', p_idempotency_key
                USING ERRCODE = 'LD002', HINT = 'Use a key of its own for every entry.';
        END IF;
    END IF;
    RETURN NEXT v_reversal;
END
$$;
