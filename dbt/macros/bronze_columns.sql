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


{#- What a bronze table has to have and does not have yet, as [{name, data_type}]: declared columns, those that its batches
    bring beyond them (schema_drift: evolve), those that bronze adds. Rows that are there get nulls in them. BigQuery's
    names ignore case. -#}
{% macro missing_columns(table, held) -%}
  {%- set wanted = table.columns | list -%}
  {%- for batch in table.batches -%}
    {%- do wanted.extend(batch.columns) -%}
  {%- endfor -%}
  {%- for name, type in added_columns().items() -%}
    {%- do wanted.append({'name': name, 'data_type': type}) -%}
  {%- endfor -%}
  {%- set missing, names = [], held | map(attribute='name') | map('lower') | list -%}
  {%- for column in wanted if column.name | lower not in names -%}
    {%- do names.append(column.name | lower) -%}
    {%- do missing.append({'name': column.name, 'data_type': standard_type(column.data_type)}) -%}
  {%- endfor -%}
  {{ return(missing) }}
{%- endmacro %}


{#- The columns of a bronze table without those that bronze adds, as [{name, data_type}], in the table's order. -#}
{% macro source_columns(held) -%}
  {%- set columns, added = [], added_columns() -%}
  {%- for column in held if column.name | lower not in added -%}
    {%- do columns.append({'name': column.name, 'data_type': standard_type(column.data_type)}) -%}
  {%- endfor -%}
  {{ return(columns) }}
{%- endmacro %}


{#- A column's value in a batch's rows, with the type that the column has in bronze; null when the batch has no such
    column. A type that bronze's cannot hold exactly is refused: the batch waits, and nothing is lost. -#}
{% macro value_in_batch(column, batch, key) -%}
  {%- set brought = {} -%}
  {%- for each in batch.columns -%}
    {%- do brought.update({each.name | lower: standard_type(each.data_type)}) -%}
  {%- endfor -%}
  {%- set type = brought.get(column.name | lower) -%}
  {%- if type == column.data_type -%}
    {{ column_name(column) }}
  {%- elif type is none and column.name in key -%}
    {{ exceptions.raise_compiler_error("Batch " ~ batch.batch_id ~ " has no column " ~ column.name ~ ", which is in the key of " ~ this) }}
  {%- elif type is none -%}
    cast(null as {{ column.data_type }})
  {%- elif type in exactly_held_by().get(column.data_type, []) -%}
    cast({{ column_name(column) }} as {{ column.data_type }})
  {%- else -%}
    {{ exceptions.raise_compiler_error(
      "Column " ~ column.name ~ " is " ~ type ~ " in batch " ~ batch.batch_id ~ " and " ~ column.data_type ~ " in "
      ~ this ~ ". Rename the column in bronze (alter table … rename column), and the next run adds the new one; "
      ~ "or exclude it in tables.yaml."
    ) }}
  {%- endif -%}
{%- endmacro %}


{#- By type, the other types whose every value it holds. -#}
{% macro exactly_held_by() -%}
  {{ return({
    'NUMERIC': ['INT64'],
    'BIGNUMERIC': ['INT64', 'NUMERIC'],
    'STRING': ['INT64', 'NUMERIC', 'BIGNUMERIC', 'BOOL', 'DATE', 'TIME', 'DATETIME', 'TIMESTAMP'],
  }) }}
{%- endmacro %}


{#- A type's name as tables.yaml writes it. -#}
{% macro standard_type(name) -%}
  {%- set legacy = {'BOOLEAN': 'BOOL', 'INTEGER': 'INT64', 'FLOAT': 'FLOAT64'} -%}
  {{ return(legacy.get(name | upper, name | upper)) }}
{%- endmacro %}
