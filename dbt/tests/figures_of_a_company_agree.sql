-- Companies whose figures contradict one another: statuses that do not add up to the total, more overdue than expected,
-- a best day after the worst, rates that are not those of the counts, figures without installments.
--
-- An error: they are computed in one query from the same rows, and no source row can set them against one another.
select *
from {{ ref('company_payment_summary') }}
where
  paid_installments + overdue_installments + pending_installments != total_installments
  or least(paid_installments, overdue_installments, pending_installments) < 0
  or least(total_original_amount, total_expected_amount, total_paid_amount, total_overdue_amount) < 0
  or total_overdue_amount > total_expected_amount
  or (paid_installments = 0) != (average_days_from_due_date is null)
  or average_days_from_due_date not between best_days_from_due_date and worst_days_from_due_date
  or first_invoice_date > last_invoice_date
  or earliest_due_date > latest_due_date
  or (total_installments = 0) != (earliest_due_date is null)
  or (total_installments = 0) != (payment_tier = 'NO_HISTORY')
  -- Half a hundredth is what rounding moves a rate by.
  or abs(payment_completion_rate * total_installments - 100 * paid_installments) > numeric '0.005' * total_installments
  or abs(overdue_rate * total_installments - 100 * overdue_installments) > numeric '0.005' * total_installments
