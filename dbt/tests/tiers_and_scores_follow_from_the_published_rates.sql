-- Companies whose tier or score is not what their published rates and average days make of them, by the thresholds
-- written once more, as a table: the best tier of which every limit is kept.
--
-- An error: whoever prices a risk by these columns must be able to compute them from the columns beside them. No row of
-- the source can make this fail.
with tiers as (

  -- A table is read as one: a tier per line.
  -- noqa: disable=LT09,LT11
  select '1 EXCELLENT' as tier, 95 as least_completion, 5 as most_days, 5 as most_overdue
  union all select '2 GOOD', 85, 15, 15
  union all select '3 FAIR', 70, 30, 25
  union all select '4 POOR', 50, null, 40
  union all select '5 HIGH_RISK', null, null, null
  -- noqa: enable=LT09,LT11

)

select
  company.buyer_tax_id,
  company.payment_tier,
  company.risk_score
from {{ ref('company_payment_summary') }} as company
cross join tiers
where
  (tiers.least_completion is null or company.payment_completion_rate >= tiers.least_completion)
  and (tiers.most_days is null or company.average_days_from_due_date <= tiers.most_days)
  and (tiers.most_overdue is null or company.overdue_rate <= tiers.most_overdue)
group by
  company.buyer_tax_id,
  company.payment_tier,
  company.risk_score,
  company.total_installments,
  company.payment_completion_rate,
  company.overdue_rate,
  company.average_days_from_due_date
having
  company.payment_tier != if(company.total_installments = 0, 'NO_HISTORY', substr(min(tiers.tier), 3))
  or company.risk_score != round(
    30
    + numeric '0.1' * (4 * company.payment_completion_rate - 3 * company.overdue_rate)
    + if(company.average_days_from_due_date <= 0, 10, 0)
    + if(company.average_days_from_due_date <= 10, 10, 0)
    + if(company.average_days_from_due_date <= 30, 10, 0),
    2
  )
