{#- Why an installment can't be used, null when it can: the one place that decides between clean and rejected. -#}
{% macro rejection_reason() -%}
  case
    when asset_id is null then 'MISSING_ASSET_ID'
    when buyer_tax_id is null then 'MISSING_BUYER_TAX_ID'
    when expected_amount_in_cents is null then 'MISSING_EXPECTED_AMOUNT'
    when due_date is null then 'MISSING_DUE_DATE'
    when least(
      coalesce(original_amount_in_cents, 0), expected_amount_in_cents, coalesce(paid_amount_in_cents, 0)
    ) < 0 then 'NEGATIVE_AMOUNT'
  end
{%- endmacro %}
