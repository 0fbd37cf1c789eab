{#- The columns that bronze adds to the source's own. -#}
{% macro added_columns() -%}
  {{ return(['_loaded_at', '_source_table', '_batch_id', '_extracted_at']) }}
{%- endmacro %}


{#- The body of every bronze model: what the run's batches bring that is newer than what the table holds.

    The columns are the ones declared in the model's yml, the key is the config's `unique_key`, the batches are
    var('batches')[model name], read when the model runs. dbt puts this query into the USING of one MERGE, so the table is
    read and written in one statement, and concurrent runs can't go back behind one another.

    Of several versions of a row, within the batches or between them and the table, the one with the latest _extracted_at
    wins, then the greatest _batch_id. That order is total, so batches can come in any order and any number of times.
    The same key twice in one batch: the row whose JSON text is the greatest, only so that it is always the same one. -#}
{% macro bronze() -%}
{%- set columns = model.columns.values() | rejectattr('name', 'in', added_columns()) | list -%}
{%- set names = columns | map(attribute='name') | join(', ') -%}
{%- set key = config.require('unique_key') -%}
{%- set batches = var('batches').get(model.name, []) -%}
with rows_of_batches as (

  -- No rows: the declared types, for a first run without batches.
  select
    {%- for column in columns %}
    cast(null as {{ column.data_type }}) as {{ column.name }},
    {%- endfor %}
    current_timestamp() as _loaded_at,
    '' as _source_table,
    '' as _batch_id,
    current_timestamp() as _extracted_at
  from (select 1 as nothing)
  where false

  {%- for batch in batches %}

  union all
  select
    {{ names }},
    current_timestamp() as _loaded_at,
    {{ text_literal(batch.source) }} as _source_table,
    {{ text_literal(batch.batch_id) }} as _batch_id,
    timestamp({{ text_literal(batch.extracted_at) }}) as _extracted_at
  from {{ table_literal(batch.table) }}
  {%- endfor %}

),

newest as (

  select *
  from rows_of_batches
  qualify row_number() over (
    partition by {{ key | join(', ') }}
    order by _extracted_at desc, _batch_id desc, to_json_string(struct({{ names }})) desc
  ) = 1

)

select newest.*
from newest
{%- if is_incremental() %}
left join {{ this }} as held
  on {% for name in key %}{{ 'and ' if not loop.first }}held.{{ name }} = newest.{{ name }} {% endfor %}
where
  held._extracted_at is null
  or held._extracted_at < newest._extracted_at
  or (held._extracted_at = newest._extracted_at and held._batch_id < newest._batch_id)
{%- endif %}
{%- endmacro %}


{#- Add to an existing bronze table the declared columns that it does not have yet; rows already there get nulls.
    Without this, dbt would merge without them and say nothing. A pre-hook, because it is a statement of its own. -#}
{% macro add_declared_columns() -%}
  {%- if execute and is_incremental() -%}
    {%- set held = adapter.get_columns_in_relation(this) | map(attribute='name') | map('lower') | list -%}
    {%- set missing = model.columns.values() | rejectattr('name', 'in', held) | list -%}
    {%- if missing -%}
      alter table {{ this }}
      {%- for column in missing %} add column if not exists {{ column.name }} {{ column.data_type }}{{ ',' if not loop.last }}{% endfor %}
    {%- endif -%}
  {%- endif -%}
{%- endmacro %}
