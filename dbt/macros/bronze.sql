{#- The body of every bronze model: the rows that this run writes into its table.

    The columns are bronze_columns.sql's, the key is the config's `unique_key`, the batches are var('batches')[model
    name], read when the model runs. dbt puts this query into the USING of one MERGE, so the table is read and written
    in one statement, and concurrent runs can't go back behind one another.

    A model without a key is replaced whole by the newest snapshot: see bronze_snapshot.sql. -#}
{% macro bronze() -%}
{%- set batches = run_batches() -%}
{%- if not config.get('unique_key') -%}
{{ newest_snapshot(batches) }}
{%- else -%}
{{ newest_versions(batches, config.get('unique_key')) }}
{%- endif -%}
{%- endmacro %}


{#- The batches that this run brings to the model. One that does not say all of what dbt_project.yml asks for is refused:
    what is left out would be taken for "no". -#}
{% macro run_batches() -%}
  {%- set needed = ['table', 'batch_id', 'extracted_at', 'source', 'snapshot', 'columns'] -%}
  {%- set needed = needed + ['deletes', 'deleted_at', 'merged_snapshot'] -%}
  {%- set batches = var('batches').get(model.name, []) -%}
  {%- for batch in batches -%}
    {%- for name in needed if name not in batch -%}
      {{ exceptions.raise_compiler_error("A batch of " ~ model.name ~ " lacks '" ~ name ~ "': " ~ batch) }}
    {%- endfor -%}
  {%- endfor -%}
  {{ return(batches) }}
{%- endmacro %}


{#- What the run's batches bring that is newer than what the table holds, and which rows their snapshots found gone.

    A version of a row is as new as its _extracted_at, the moment at which the row was read; of two read at the same
    moment the one of the greater _batch_id is newer. That order is total, so batches can come in any order and any
    number of times. The same key twice in one batch at the same moment: the row whose JSON text is the greatest, only
    so that it is always the same one.

    A snapshot is the complete table. What it does not have is gone; what it has is at least as new as itself. So a row
    is gone when the newest version known of it is older than a snapshot, and no list of the snapshot's keys is needed.
    Such a row keeps its last values and becomes the snapshot's version: a batch that was read before the snapshot can't
    bring it back, one that was read later does. -#}
{% macro newest_versions(batches, key) -%}
{%- set columns = source_columns(batches) -%}
{%- set snapshots = deleting_snapshots(batches) -%}
{%- set sweeps = gone_rows_are_sought(batches) -%}
{%- set touched = touched_partitions('held') -%}
with versions as (

  {{ rows_of_batches(columns, batches) }}

  {%- if sweeps %}

  -- The rows that the table holds and that the run's snapshots may have found gone.
  union all
  select
    {%- for column in columns %}
    {{ column_name(column) }},
    {%- endfor %}
    current_timestamp() as _loaded_at,
    _source_table,
    _batch_id,
    _extracted_at,
    _deleted_at
  from {{ this }} as held
  where _deleted_at is null and {{ is_older('held', snapshots[-1]) }}
  {%- endif %}

),

newest as (

  select
    *,
    {{ first_newer('versions', snapshots) }} as _found_gone
  from versions
  qualify row_number() over (
    partition by {% for name in key %}{{ adapter.quote(name) }}{{ ', ' if not loop.last }}{% endfor %}
    order by
      _extracted_at desc,
      _batch_id desc,
      to_json_string(struct({% for column in columns %}{{ column_name(column) }}{{ ', ' if not loop.last }}{% endfor %})) desc
  ) = 1

)

select
  {%- for column in columns %}
  newest.{{ column_name(column) }},
  {%- endfor %}
  newest._loaded_at,
  newest._source_table,
  coalesce(newest._found_gone.batch_id, newest._batch_id) as _batch_id,
  coalesce(newest._found_gone.extracted_at, newest._extracted_at) as _extracted_at,
  coalesce(newest._deleted_at, newest._found_gone.extracted_at) as _deleted_at
from newest
{%- if is_incremental() %}
left join {{ this }} as held
  on {% for name in key %}{{ 'and ' if not loop.first }}held.{{ adapter.quote(name) }} = newest.{{ adapter.quote(name) }} {% endfor %}
  {{- ' and ' ~ touched if touched }}
where
  held._extracted_at is null
  or held._extracted_at < newest._extracted_at
  or (held._extracted_at = newest._extracted_at and held._batch_id < newest._batch_id)
  -- The version that is held already, now known to be gone.
  or (newest._found_gone is not null and held._extracted_at = newest._extracted_at and held._batch_id = newest._batch_id)
{%- endif %}
{%- endmacro %}


{#- The rows of batches, with the columns that bronze adds; without batches none, but typed.

    No row is older than its batch, whatever the source's clock did: only so is a snapshot's row never older than the
    snapshot. With `by_row=false` it is exactly as new as its batch. -#}
{% macro rows_of_batches(columns, batches, by_row=true) -%}
  -- No rows: the declared types, for a first run without batches.
  select
    {%- for column in columns %}
    cast(null as {{ column.data_type }}) as {{ column_name(column) }},
    {%- endfor %}
    current_timestamp() as _loaded_at,
    '' as _source_table,
    '' as _batch_id,
    current_timestamp() as _extracted_at,
    cast(null as timestamp) as _deleted_at
  from (select 1 as nothing)
  where false

  {%- for batch in batches %}
  {%- set extracted_at = timestamp_literal(batch.extracted_at) %}

  union all
  select
    {%- for column in columns %}
    {{ value_in_batch(column, batch) }} as {{ column_name(column) }},
    {%- endfor %}
    current_timestamp() as _loaded_at,
    {{ text_literal(batch.source) }} as _source_table,
    {{ text_literal(batch.batch_id) }} as _batch_id,
    {{ 'greatest(coalesce(_extracted_at, ' ~ extracted_at ~ '), ' ~ extracted_at ~ ')' if by_row else extracted_at }} as _extracted_at,
    cast({{ adapter.quote(batch.deleted_at) if batch.deleted_at else 'null' }} as timestamp) as _deleted_at
  from {{ table_literal(batch.table) }}
  {%- endfor %}
{%- endmacro %}
