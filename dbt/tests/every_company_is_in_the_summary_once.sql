-- Companies that the summary has not exactly once; with its key's uniqueness, the two have the same companies.
select company.buyer_tax_id
from {{ ref('cnpj_ws_clean') }} as company
left join {{ ref('company_payment_summary') }} as summary on summary.buyer_tax_id = company.buyer_tax_id
group by company.buyer_tax_id
having count(summary.buyer_tax_id) != 1
