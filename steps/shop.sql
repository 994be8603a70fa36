-- The shop's own tables: invoices, the warehouse's picking list, accounts. Names are unqualified;
-- whoever installs this sets search_path to the schema, and the functions keep it.

-- A sequence would leave gaps where a transaction is rolled back. The row is locked until the commit,
-- so invoices are written one transaction after the other.
CREATE TABLE IF NOT EXISTS invoice_counter (
    id   boolean PRIMARY KEY DEFAULT true CONSTRAINT there_is_one_row CHECK (id),
    last bigint NOT NULL DEFAULT 0
);
INSERT INTO invoice_counter DEFAULT VALUES ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS invoice (
    number       bigint PRIMARY KEY,
    saga_id      uuid NOT NULL,
    kind         text NOT NULL CONSTRAINT kind_is_invoice_or_credit CHECK (kind IN ('invoice', 'credit')),
    credits      bigint REFERENCES invoice,
    customer     text NOT NULL,
    amount_minor bigint NOT NULL CONSTRAINT amount_is_positive CHECK (amount_minor > 0),
    currency     text NOT NULL,
    issued_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT one_invoice_and_one_credit_a_saga UNIQUE (saga_id, kind),
    CONSTRAINT a_credit_credits_an_invoice CHECK ((kind = 'credit') = (credits IS NOT NULL))
);

CREATE TABLE IF NOT EXISTS picking_list (
    saga_id   uuid PRIMARY KEY,
    shipment  text NOT NULL,
    listed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE IF NOT EXISTS account (
    saga_id   uuid PRIMARY KEY,
    name      text NOT NULL,
    customer  text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX IF NOT EXISTS an_open_account_has_a_name_of_its_own ON account (name)
    WHERE closed_at IS NULL;

-- The number of a saga's invoice, be it new or there already. Of two at once the second waits for the
-- counter, and sees then what the first has written.
CREATE OR REPLACE FUNCTION issue_invoice(
    p_saga_id uuid, p_customer text, p_amount_minor bigint, p_currency text) RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_next   bigint;
    v_number bigint;
BEGIN
    SELECT last + 1 INTO STRICT v_next FROM invoice_counter FOR UPDATE;
    SELECT number INTO v_number FROM invoice WHERE saga_id = p_saga_id AND kind = 'invoice';
    IF FOUND THEN
        RETURN v_number;
    END IF;
    INSERT INTO invoice (number, saga_id, kind, customer, amount_minor, currency)
    VALUES (v_next, p_saga_id, 'invoice', p_customer, p_amount_minor, p_currency);
    UPDATE invoice_counter SET last = v_next;
    RETURN v_next;
END
$$;

-- The number of the credit note that takes back a saga's invoice; null when there is no invoice.
CREATE OR REPLACE FUNCTION credit_invoice(p_saga_id uuid) RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_next   bigint;
    v_number bigint;
BEGIN
    SELECT last + 1 INTO STRICT v_next FROM invoice_counter FOR UPDATE;
    SELECT number INTO v_number FROM invoice WHERE saga_id = p_saga_id AND kind = 'credit';
    IF FOUND THEN
        RETURN v_number;
    END IF;
    INSERT INTO invoice (number, saga_id, kind, credits, customer, amount_minor, currency)
    SELECT v_next, saga_id, 'credit', number, customer, amount_minor, currency
    FROM invoice WHERE saga_id = p_saga_id AND kind = 'invoice'
    RETURNING number INTO v_number;
    IF FOUND THEN
        UPDATE invoice_counter SET last = v_next;
    END IF;
    RETURN v_number;
END
$$;
