{#- How a bronze table is made and filled: created empty if it is not there, given the columns that it lacks, then merged
    into. No statement here can drop, replace or empty it, whatever dbt believes to be there: dbt takes a refused list of
    a dataset for an empty one (dbt-adapters issue 2145), so nobody asks its list. Sent late or twice, each statement
    leaves the table as it is or makes it newer. -#}
{% materialization bronze, adapter='bigquery' %}
  {%- set table = declared_table() -%}
  {{ run_hooks(pre_hooks) }}
  {%- if not adapter.get_columns_in_relation(this) -%}
    {%- call statement('create') -%}{{ create_if_absent(table) }}{%- endcall -%}
  {%- endif -%}
  {%- set missing = missing_columns(table, adapter.get_columns_in_relation(this)) -%}
  {%- if missing -%}
    {%- call statement('add_columns') -%}
      alter table {{ this }}
      {%- for column in missing %}
      add column if not exists {{ column_name(column) }} {{ column.data_type }}{{ ',' if not loop.last }}
      {%- endfor -%}
    {%- endcall -%}
  {%- endif -%}
  {%- if table.batches -%}
    {%- set columns = source_columns(adapter.get_columns_in_relation(this)) -%}
    {%- if not columns -%}
      {{ exceptions.raise_compiler_error(this ~ " is not there, though it was just made: it was dropped by somebody else") }}
    {%- endif -%}
    {%- call statement('main') -%}{{ merge_statement(table, columns) }}{%- endcall -%}
  {%- else -%}
    {%- call noop_statement('main', 'no batches') -%} -- no batches {%- endcall -%}
  {%- endif -%}
  {{ run_hooks(post_hooks) }}
  {%- set made = this.incorporate(type='table') -%}
  {%- do persist_docs(made, model) -%}
  {{ return({'relations': [made]}) }}
{% endmaterialization %}


{% macro create_if_absent(table) -%}
create table if not exists {{ this }} (
  {%- for column in table.columns %}
  {{ column_name(column) }} {{ column.data_type }},
  {%- endfor %}
  {%- for name, type in added_columns().items() %}
  {{ name }} {{ type }}{{ ',' if not loop.last }}
  {%- endfor %}
)
{{ partition_by(adapter.parse_partition_by(config.get('partition_by', none))) }}
{{ cluster_by(config.get('cluster_by', none)) }}
{{ bigquery_table_options(config, model, false) }}
{%- endmacro %}
