-- The two source tables, as the business system has them. May run any number of times.
CREATE SCHEMA IF NOT EXISTS oltp;

CREATE TABLE IF NOT EXISTS oltp.business_case_cnpj_ws (
    buyer_tax_id    text PRIMARY KEY,
    share_capital   numeric(18, 2),
    company_size    text,
    legal_nature    text,
    company_status  text,
    main_cnae       text,
    state           text,
    uf              text,
    city            text,
    zipcode         text,
    simples_option  boolean,
    is_mei          boolean,
    is_main_company boolean,
    is_active       boolean,
    created_at      timestamptz,
    updated_at      timestamptz
);

CREATE TABLE IF NOT EXISTS oltp.business_case_installments (
    asset_id                 text PRIMARY KEY,
    invoice_id               text,
    buyer_tax_id             text,
    buyer_main_tax_id        text,
    original_amount_in_cents bigint,
    expected_amount_in_cents bigint,
    paid_amount_in_cents     bigint,
    due_date                 date,
    paid_date                date,
    invoice_issue_date       date
);

-- The change cursors, spelt as in config/tables.yaml: the planner matches an expression, not a meaning.
CREATE INDEX IF NOT EXISTS business_case_cnpj_ws_cursor
    ON oltp.business_case_cnpj_ws (greatest(created_at, updated_at));
CREATE INDEX IF NOT EXISTS business_case_installments_cursor
    ON oltp.business_case_installments (greatest(paid_date, invoice_issue_date));
