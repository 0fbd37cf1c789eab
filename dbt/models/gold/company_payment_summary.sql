with installments as (

  select
    *,
    coalesce(buyer_tax_id, buyer_main_tax_id) as company_tax_id
  from {{ ref('installments_clean') }}

),

-- One row per company with installments.
totals as (

  select
    company_tax_id,
    count(*) as total_installments,
    countif(payment_status = 'PAID') as paid_installments,
    countif(payment_status = 'OVERDUE') as overdue_installments,
    countif(payment_status = 'PENDING') as pending_installments,
    sum(original_amount) as total_original_amount,
    sum(expected_amount) as total_expected_amount,
    sum(paid_amount) as total_paid_amount,
    sum(if(payment_status = 'OVERDUE', expected_amount, 0)) as total_overdue_amount,
    avg(if(payment_status = 'PAID', days_from_due_date, null)) as average_days_from_due_date,
    min(if(payment_status = 'PAID', days_from_due_date, null)) as best_days_from_due_date,
    max(if(payment_status = 'PAID', days_from_due_date, null)) as worst_days_from_due_date,
    min(invoice_issue_date) as first_invoice_date,
    max(invoice_issue_date) as last_invoice_date,
    min(due_date) as earliest_due_date,
    max(due_date) as latest_due_date
  from installments
  group by company_tax_id

),

companies as (

  select
    company.buyer_tax_id,
    company.share_capital,
    company.company_size,
    company.legal_nature,
    company.company_status,
    company.main_cnae,
    company.simples_option,
    company.is_mei,
    company.is_main_company,
    company.is_active,
    company.standardized_state,
    company.standardized_uf,
    company.standardized_city,
    company.data_quality_flag as company_data_quality,
    coalesce(totals.total_installments, 0) as total_installments,
    coalesce(totals.paid_installments, 0) as paid_installments,
    coalesce(totals.overdue_installments, 0) as overdue_installments,
    coalesce(totals.pending_installments, 0) as pending_installments,
    coalesce(totals.total_original_amount, 0) as total_original_amount,
    coalesce(totals.total_expected_amount, 0) as total_expected_amount,
    coalesce(totals.total_paid_amount, 0) as total_paid_amount,
    coalesce(totals.total_overdue_amount, 0) as total_overdue_amount,
    totals.average_days_from_due_date,
    totals.best_days_from_due_date,
    totals.worst_days_from_due_date,
    totals.first_invoice_date,
    totals.last_invoice_date,
    totals.earliest_due_date,
    totals.latest_due_date
  from {{ ref('cnpj_ws_clean') }} as company
  left join totals on totals.company_tax_id = company.buyer_tax_id

),

rates as (

  select
    *,
    {{ percentage('paid_installments', 'total_installments') }} as payment_completion_rate,
    {{ percentage('overdue_installments', 'total_installments') }} as overdue_rate,
    {{ percentage('total_paid_amount', 'total_expected_amount') }} as amount_recovery_rate,
    {{ percentage('total_overdue_amount', 'total_expected_amount') }} as overdue_amount_rate,
    coalesce(round(total_expected_amount / nullif(total_installments, 0), 2), 0) as avg_installment_amount
  from companies

)

select
  *,
  case
    when total_installments = 0 then 'NO_HISTORY'
    when payment_completion_rate >= 95 and average_days_from_due_date <= 5 and overdue_rate <= 5 then 'EXCELLENT'
    when payment_completion_rate >= 85 and average_days_from_due_date <= 15 and overdue_rate <= 15 then 'GOOD'
    when payment_completion_rate >= 70 and average_days_from_due_date <= 30 and overdue_rate <= 25 then 'FAIR'
    when payment_completion_rate >= 50 and overdue_rate <= 40 then 'POOR'
    else 'HIGH_RISK'
  end as payment_tier,
  round(
    numeric '0.4' * payment_completion_rate
    + case
      when average_days_from_due_date <= 0 then 30
      when average_days_from_due_date <= 10 then 20
      when average_days_from_due_date <= 30 then 10
      else 0
    end
    + numeric '0.3' * (100 - overdue_rate),
    2
  ) as risk_score
from rates
