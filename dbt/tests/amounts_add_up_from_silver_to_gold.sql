-- One row for each model of gold whose counts and amounts are not those of silver. The summary has the installments of
-- known companies, payment_analytics_detailed has all.
--
-- An error: whatever the source sends, both sides are computed from the same clean rows. Only a wrong join or sum makes
-- them differ, and then every figure of gold is in doubt. (Installments without a company are the source's business:
-- the relationships test of silver warns of them.)
with installments as (

  select
    installment.payment_status,
    installment.original_amount,
    installment.expected_amount,
    installment.paid_amount,
    company.buyer_tax_id is not null as has_company
  from {{ ref('installments_clean') }} as installment
  left join {{ ref('cnpj_ws_clean') }} as company
    on company.buyer_tax_id = coalesce(installment.buyer_tax_id, installment.buyer_main_tax_id)

),

summed as (

  select
    'company_payment_summary' as model,
    'silver' as layer,
    count(*) as installments,
    countif(payment_status = 'PAID') as paid,
    countif(payment_status = 'OVERDUE') as overdue,
    countif(payment_status = 'PENDING') as pending,
    coalesce(sum(original_amount), 0) as original_amount,
    coalesce(sum(expected_amount), 0) as expected_amount,
    coalesce(sum(paid_amount), 0) as paid_amount,
    coalesce(sum(if(payment_status = 'OVERDUE', expected_amount, 0)), 0) as overdue_amount
  from installments
  where has_company

  union all
  select
    'company_payment_summary',
    'gold',
    coalesce(sum(total_installments), 0),
    coalesce(sum(paid_installments), 0),
    coalesce(sum(overdue_installments), 0),
    coalesce(sum(pending_installments), 0),
    coalesce(sum(total_original_amount), 0),
    coalesce(sum(total_expected_amount), 0),
    coalesce(sum(total_paid_amount), 0),
    coalesce(sum(total_overdue_amount), 0)
  from {{ ref('company_payment_summary') }}

  union all
  select
    'payment_analytics_detailed',
    'silver',
    count(*),
    countif(payment_status = 'PAID'),
    countif(payment_status = 'OVERDUE'),
    countif(payment_status = 'PENDING'),
    coalesce(sum(original_amount), 0),
    coalesce(sum(expected_amount), 0),
    coalesce(sum(paid_amount), 0),
    coalesce(sum(if(payment_status = 'OVERDUE', expected_amount, 0)), 0)
  from installments

  union all
  select
    'payment_analytics_detailed',
    'gold',
    count(*),
    countif(payment_status = 'PAID'),
    countif(payment_status = 'OVERDUE'),
    countif(payment_status = 'PENDING'),
    coalesce(sum(original_amount), 0),
    coalesce(sum(expected_amount), 0),
    coalesce(sum(paid_amount), 0),
    coalesce(sum(if(payment_status = 'OVERDUE', expected_amount, 0)), 0)
  from {{ ref('payment_analytics_detailed') }}

)

select model
from summed
group by model
having
  count(*) != 2
  or min(installments) != max(installments)
  or min(paid) != max(paid)
  or min(overdue) != max(overdue)
  or min(pending) != max(pending)
  or min(original_amount) != max(original_amount)
  or min(expected_amount) != max(expected_amount)
  or min(paid_amount) != max(paid_amount)
  or min(overdue_amount) != max(overdue_amount)
