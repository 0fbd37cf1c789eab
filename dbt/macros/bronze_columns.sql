{#- The columns that bronze adds to the source's own. -#}
{% macro added_columns() -%}
  {{ return(['_loaded_at', '_source_table', '_batch_id', '_extracted_at', '_deleted_at']) }}
{%- endmacro %}


{#- The columns of a bronze table after this run without those that bronze adds, as [{name, data_type}]: the ones that
    the model's yml declares, the ones that earlier batches brought, the ones that this run's batches bring
    (schema_drift: evolve). BigQuery's names ignore case. -#}
{% macro source_columns(batches) -%}
  {%- set candidates = model.columns.values() | list -%}
  {%- if execute and is_incremental() -%}
    {%- do candidates.extend(adapter.get_columns_in_relation(this)) -%}
  {%- endif -%}
  {%- for batch in batches -%}
    {%- do candidates.extend(batch.columns) -%}
  {%- endfor -%}
  {%- set columns, names = [], added_columns() -%}
  {%- for column in candidates if column.name | lower not in names -%}
    {%- do names.append(column.name | lower) -%}
    {%- do columns.append({'name': column.name, 'data_type': standard_type(column.data_type)}) -%}
  {%- endfor -%}
  {{ return(columns) }}
{%- endmacro %}


{#- A column's value in a batch's rows, with the type that the column has in bronze; null when the batch has no such
    column. A type that bronze's cannot hold exactly is refused: the batch stays loaded, and nothing is lost. -#}
{% macro value_in_batch(column, batch) -%}
  {%- set declared = model.columns.keys() | map('lower') | list -%}
  {%- set brought = {} -%}
  {%- for extra in batch.columns -%}
    {%- do brought.update({extra.name | lower: standard_type(extra.data_type)}) -%}
  {%- endfor -%}
  {%- set type = brought.get(column.name | lower) -%}
  {%- if column.name | lower in declared or type == column.data_type -%}
    {{ column_name(column) }}
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


{#- Add to an existing bronze table the columns that it does not have yet; rows already there get nulls. Without this,
    dbt would merge without them and say nothing. A pre-hook, because it is a statement of its own: it runs before the
    MERGE, which writes all columns that the table has then. Should another process add one more in between, the MERGE
    fails, and its batches come again. -#}
{% macro add_missing_columns() -%}
  {%- if execute and is_incremental() -%}
    {%- set held = adapter.get_columns_in_relation(this) | map(attribute='name') | map('lower') | list -%}
    {%- set wanted = source_columns(run_batches()) -%}
    {%- do wanted.extend(model.columns.values() | selectattr('name', 'in', added_columns())) -%}
    {%- set missing = [] -%}
    {%- for column in wanted if column.name | lower not in held -%}
      {%- do missing.append("add column if not exists " ~ column_name(column) ~ " " ~ column.data_type) -%}
    {%- endfor -%}
    {%- if missing -%}
      alter table {{ this }} {{ missing | join(', ') }}
    {%- endif -%}
  {%- endif -%}
{%- endmacro %}
