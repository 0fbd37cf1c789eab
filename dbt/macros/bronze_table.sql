{#- How a bronze model is made and filled. Its rows are in two tables: the *base*, and the *delta*, which loaded batches
    are appended to (the transformer does that by itself: services/transformer/appending.py). Under the model's own name
    people see a view over both. What was merged is deleted from the delta by the transformer, once the MERGE's own job has
    said that it ran: dbt can be told of another job's end.

    No statement here can drop, replace or empty what bronze holds, whatever dbt believes to be there: dbt takes a refused
    list of a dataset for an empty one (dbt-adapters issue 2145), so nobody asks its list. Sent late or twice, each
    statement leaves the tables as they are or makes them newer. What is to be done, the transformer has seen and hands
    over: docs/bronze.md. -#}
{% materialization bronze, adapter='bigquery' %}
  {%- set table = declared_table() -%}
  {%- set base, delta = part_of_bronze('base'), part_of_bronze('delta') -%}
  {{ run_hooks(pre_hooks) }}
  {%- if table.adopt -%}
    {%- call statement('adopt') -%} alter table {{ this }} rename to {{ adapter.quote(base.identifier) }} {%- endcall -%}
  {%- endif -%}
  {%- do make_part(base, table) -%}
  {%- if table.keeps_delta -%}{%- do make_part(delta, table) -%}{%- endif -%}
  {%- if table.view -%}
    {%- call statement('view') -%}
      create or replace view {{ this }}
      {{ view_options(table.definition) }}
      as {{ table.view }}
    {%- endcall -%}
    {#- dbt asks for the view and sends it back for this; the view's own description is in its options. -#}
    {%- if model.columns.values() | selectattr('description') | list -%}
      {%- do persist_docs(this.incorporate(type='view'), model) -%}
    {%- endif -%}
  {%- endif -%}
  {%- if table.batches or table.delta -%}
    {%- call statement('main') -%}{{ merge_statement(table, base, delta) }}{%- endcall -%}
  {%- else -%}
    {%- call noop_statement('main', 'no batches') -%} -- no batches {%- endcall -%}
  {%- endif -%}
  {{ run_hooks(post_hooks) }}
  {{ return({'relations': [this.incorporate(type='view')]}) }}
{% endmaterialization %}


{#- The base or the delta of this model. -#}
{% macro part_of_bronze(part) -%}
  {{ return(api.Relation.create(database=this.database, schema=this.schema, identifier=this.identifier ~ '_' ~ part, type='table')) }}
{%- endmacro %}


{#- Make the base or the delta, empty, if it is not there; give it the columns that it lacks. -#}
{% macro make_part(part, table) -%}
  {%- set held = adapter.get_columns_in_relation(part) -%}
  {%- if not held -%}
    {%- call statement('create') -%}{{ create_if_absent(part, table) }}{%- endcall -%}
    {#- If another made it meanwhile, it can lack some. -#}
    {%- set held = adapter.get_columns_in_relation(part) -%}
  {%- endif -%}
  {%- set missing = missing_columns(table, held) -%}
  {%- if missing -%}
    {%- call statement('add_columns') -%}
      alter table {{ part }}
      {%- for column in missing %}
      add column if not exists {{ column_name(column) }} {{ column.data_type }}{{ ',' if not loop.last }}
      {%- endfor -%}
    {%- endcall -%}
  {%- endif -%}
{%- endmacro %}


{% macro create_if_absent(part, table) -%}
create table if not exists {{ part }} (
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


{#- The view's options. Its label says how it was defined, so that the transformer sees when it is to be made anew. -#}
{% macro view_options(definition) -%}
  {%- set labels = [] -%}
  {%- for name, value in config.get('labels', {}).items() -%}
    {%- do labels.append('(' ~ text_literal(name) ~ ', ' ~ text_literal(value) ~ ')') -%}
  {%- endfor -%}
  {%- do labels.append('("credix_definition", ' ~ text_literal(definition) ~ ')') -%}
  options (
    description = {{ text_literal(model.description) }},
    labels = [{{ labels | join(', ') }}]
  )
{%- endmacro %}
