{#- Datasets are named as in the project `credix`; dbt asks only the project that it was started with. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ credix.generate_schema_name(custom_schema_name, node) }}
{%- endmacro %}
