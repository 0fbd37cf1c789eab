{#- The columns that bronze adds to the source's own, with their types. -#}
{% macro added_columns() -%}
  {{ return({
    '_loaded_at': 'TIMESTAMP',
    '_source_table': 'STRING',
    '_batch_id': 'STRING',
    '_extracted_at': 'TIMESTAMP',
    '_deleted_at': 'TIMESTAMP',
  }) }}
{%- endmacro %}


{#- What the base or the delta has to have and does not have yet, as [{name, data_type}]. Rows that are there get nulls in
    them. BigQuery's names ignore case. -#}
{% macro missing_columns(table, held) -%}
  {%- set wanted = table.columns | list -%}
  {%- for name, type in added_columns().items() -%}
    {%- do wanted.append({'name': name, 'data_type': type}) -%}
  {%- endfor -%}
  {%- set missing, names = [], held | map(attribute='name') | map('lower') | list -%}
  {%- for column in wanted if column.name | lower not in names -%}
    {%- do missing.append({'name': column.name, 'data_type': column.data_type}) -%}
  {%- endfor -%}
  {{ return(missing) }}
{%- endmacro %}
