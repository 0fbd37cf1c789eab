with installments as (

  select
    *,
    coalesce(buyer_tax_id, buyer_main_tax_id) as company_tax_id,
    paid_amount - expected_amount as payment_variance
  from {{ ref('installments_clean') }}

)

select
  installment.asset_id,
  installment.invoice_id,
  installment.buyer_tax_id,
  installment.buyer_main_tax_id,
  installment.company_tax_id,
  installment.original_amount,
  installment.expected_amount,
  installment.paid_amount,
  installment.payment_variance,
  installment.due_date,
  installment.paid_date,
  installment.invoice_issue_date,
  extract(year from installment.due_date) as due_year,
  extract(month from installment.due_date) as due_month,
  extract(quarter from installment.due_date) as due_quarter,
  installment.payment_status,
  installment.days_from_due_date,
  case
    when installment.payment_status = 'PAID' and installment.days_from_due_date <= 0 then 'EARLY_PAYMENT'
    when installment.payment_status = 'PAID' and installment.days_from_due_date <= 5 then 'ON_TIME_PAYMENT'
    when installment.payment_status = 'PAID' and installment.days_from_due_date <= 30 then 'LATE_PAYMENT'
    when installment.payment_status = 'PAID' then 'VERY_LATE_PAYMENT'
    when installment.payment_status = 'OVERDUE' and installment.days_from_due_date <= 30 then 'RECENTLY_OVERDUE'
    when installment.payment_status = 'OVERDUE' then 'SEVERELY_OVERDUE'
    else 'PENDING'
  end as payment_behavior,
  case
    when installment.expected_amount < 100 then 'MICRO'
    when installment.expected_amount < 1000 then 'SMALL'
    when installment.expected_amount < 10000 then 'MEDIUM'
    when installment.expected_amount < 100000 then 'LARGE'
    else 'XLARGE'
  end as payment_size_category,
  case
    when installment.payment_status != 'PAID' or installment.paid_amount is null then 'UNPAID'
    when abs(installment.payment_variance) <= numeric '0.01' then 'EXACT_PAYMENT'
    when installment.payment_variance > 0 then 'OVERPAYMENT'
    else 'UNDERPAYMENT'
  end as payment_variance_type,
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
  case
    when company.standardized_state in ('SÃO PAULO', 'RIO DE JANEIRO', 'MINAS GERAIS') then 'MAJOR_STATE'
    when company.standardized_state != '' then 'OTHER_STATE'
    else 'UNKNOWN_STATE'
  end as geographic_tier,
  case
    when company.is_mei then 'MEI'
    when company.company_size = 'MICRO' then 'MICRO_COMPANY'
    when company.company_size = 'SMALL' then 'SMALL_COMPANY'
    when company.company_size in ('MEDIUM', 'LARGE') then 'MEDIUM_LARGE_COMPANY'
    else 'UNKNOWN_SIZE'
  end as company_risk_category,
  company.data_quality_flag as company_data_quality,
  if(company.data_quality_flag != 'VALID', 'POOR_QUALITY', 'GOOD_QUALITY') as overall_data_quality
from installments as installment
left join {{ ref('cnpj_ws_clean') }} as company
  on company.buyer_tax_id = installment.company_tax_id
