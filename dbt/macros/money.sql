{#- Whole cents as NUMERIC with two decimals; exact. -#}
{% macro cents_to_amount(column) -%}
  cast({{ column }} as numeric) / 100
{%- endmacro %}


{#- What percentage `part` is of `whole`, rounded to two decimals; 0 when there is no whole. -#}
{% macro percentage(part, whole) -%}
  coalesce(round(100 * cast({{ part }} as numeric) / nullif(cast({{ whole }} as numeric), 0), 2), 0)
{%- endmacro %}
