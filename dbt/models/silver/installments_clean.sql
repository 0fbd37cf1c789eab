select
  asset_id,
  invoice_id,
  buyer_tax_id,
  buyer_main_tax_id,
  {{ cents_to_amount('original_amount_in_cents') }} as original_amount,
  {{ cents_to_amount('expected_amount_in_cents') }} as expected_amount,
  {{ cents_to_amount('paid_amount_in_cents') }} as paid_amount,
  due_date,
  paid_date,
  invoice_issue_date,
  case
    when paid_date is not null then 'PAID'
    when due_date < {{ today() }} then 'OVERDUE'
    else 'PENDING'
  end as payment_status,
  date_diff(coalesce(paid_date, {{ today() }}), due_date, day) as days_from_due_date,
  _loaded_at,
  _extracted_at
from {{ ref('installments') }}
where _deleted_at is null and {{ rejection_reason() }} is null
