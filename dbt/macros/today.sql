{#- The date that statuses are as of: today in UTC, or var('as_of'). -#}
{% macro today() -%}
  {%- if var('as_of') -%} date {{ text_literal(var('as_of')) }} {%- else -%} current_date('UTC') {%- endif -%}
{%- endmacro %}
