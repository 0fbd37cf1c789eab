{#- The body of every bronze model. What a run writes is made by the materialization `bronze` (bronze_table.sql), once the
    tables are there; so a bronze model that is compiled, for the docs or by hand, is what people see. -#}
{% macro bronze() -%}
select * from {{ this }}
{%- endmacro %}


{#- The declared table of this model and the batches that this run merges, as the transformer hands them over in
    var('bronze'); dbt_project.yml says in which form. What does not say all is refused: what is left out would be taken
    for "no". -#}
{% macro declared_table() -%}
  {%- set table = var('bronze').get(model.name) -%}
  {%- if table is none -%}
    {{ exceptions.raise_compiler_error(
      "Bronze model " ~ model.name ~ " is run by the transformer, which hands over its declared table in var('bronze')"
    ) }}
  {%- endif -%}
  {%- for name in ['key', 'columns', 'deletes', 'merged_snapshot', 'job_id', 'adopt', 'view', 'definition', 'keeps_delta', 'delta', 'guard', 'batches'] if name not in table -%}
    {{ exceptions.raise_compiler_error("The table of " ~ model.name ~ " lacks '" ~ name ~ "'") }}
  {%- endfor -%}
  {%- set needed = ['table', 'batch_id', 'extracted_at', 'snapshot', 'rows'] -%}
  {%- for batch in table.batches -%}
    {%- for name in needed if name not in batch -%}
      {{ exceptions.raise_compiler_error("A batch of " ~ model.name ~ " lacks '" ~ name ~ "'") }}
    {%- endfor -%}
  {%- endfor -%}
  {{ return(table) }}
{%- endmacro %}


{#- The MERGE that brings a run's batches, and the delta, into the base: read and written in one statement.

    It has a job id of its own, which the transformer has noted before (services/core/jobs.py): sent again, by whoever
    and however late, it does not run again. Its aliases have a blank in them: no column can have such a name. -#}
{% macro merge_statement(table, base, delta) -%}
/* job: {{ table.job_id }} */
{% if table.key -%}
{{ merge_of_versions(table, base, delta) }}
{%- else -%}
{{ merge_of_snapshot(table, base) }}
{%- endif -%}
{%- endmacro %}


{#- What the run's batches and the delta bring that is newer than what the base holds, and which rows their snapshots found gone.

    A version of a row is as new as its _extracted_at, the moment at which the row was read; of two read at the same
    moment the one of the greater _batch_id is newer. That order is total, so batches can come in any order and any
    number of times. The same key twice in one batch at the same moment: the row whose JSON text is the greatest, only
    so that it is always the same one.

    A snapshot is the complete table. What it does not have is gone; what it has is at least as new as itself. So a row
    is gone when the newest version known of it is older than a snapshot, and no list of the snapshot's keys is needed.
    Such a row keeps its last values and becomes the snapshot's version: a batch that was read before the snapshot can't
    bring it back, one that was read later does. -#}
{% macro merge_of_versions(table, base, delta) -%}
{%- set columns = table.columns -%}
{%- set snapshots = deleting_snapshots(table) -%}
{%- set touched = touched_partitions(table, delta, '`bronze row`') -%}
merge into {{ base }} as `bronze row`
using (

  with versions as (

    {%- if table.batches %}
    {{ guarded(table, table.batches | map(attribute='rows') | join('\n    union all ')) }}
    {%- endif %}

    {%- if table.delta %}
    {{ 'union all ' if table.batches -}}
    select {{ names_of(columns) }} from {{ delta }}
    {%- endif %}

    {%- if gone_rows_are_sought(table) %}

    -- The rows that the base holds and that the run's snapshots may have found gone.
    union all
    select
      {%- for column in columns %}
      `bronze row`.{{ column_name(column) }},
      {%- endfor %}
      current_timestamp() as _loaded_at, `bronze row`._source_table, `bronze row`._batch_id, `bronze row`._extracted_at, `bronze row`._deleted_at
    from {{ base }} as `bronze row`
    where `bronze row`._deleted_at is null and {{ is_older('`bronze row`', snapshots[-1]) }}
    {%- endif %}

  )

  select
    `read row`.*,
    {{ first_newer('`read row`', snapshots) }} as `found gone`
  from versions as `read row`
  qualify row_number() over (
    partition by {% for name in table.key %}`read row`.{{ adapter.quote(name) }}{{ ', ' if not loop.last }}{% endfor %}
    order by
      `read row`._extracted_at desc,
      `read row`._batch_id desc,
      to_json_string(struct({% for column in columns %}`read row`.{{ column_name(column) }}{{ ', ' if not loop.last }}{% endfor %})) desc
  ) = 1

) as `batch row`
on
  {%- for name in table.key %}
  {{ 'and ' if not loop.first }}`bronze row`.{{ adapter.quote(name) }} = `batch row`.{{ adapter.quote(name) }}
  {%- endfor %}
  {{- '\n  and ' ~ touched if touched }}
when matched and (
  `bronze row`._extracted_at is null
  or `bronze row`._extracted_at < `batch row`._extracted_at
  or (`bronze row`._extracted_at = `batch row`._extracted_at and `bronze row`._batch_id < `batch row`._batch_id)
  -- The version that is held already, now known to be gone.
  or (
    `batch row`.`found gone` is not null
    and `bronze row`._extracted_at = `batch row`._extracted_at
    and `bronze row`._batch_id = `batch row`._batch_id
  )
) then update set
  {%- for column in columns %}
  {{ column_name(column) }} = `batch row`.{{ column_name(column) }},
  {%- endfor %}
  {%- for name, value in values_of_bronze().items() %}
  {{ name }} = {{ value }}{{ ',' if not loop.last }}
  {%- endfor %}
when not matched then insert ({{ names_of(columns) }})
values (
  {%- for column in columns %}
  `batch row`.{{ column_name(column) }},
  {%- endfor %}
  {{ values_of_bronze().values() | join(', ') }}
)
{%- endmacro %}


{#- A SELECT of rows of the run's batches, which raises an error unless their row tests pass; as it is, if these are known.
    The tests read these rows alone, not the delta's, which were tested when they were appended. The guard says nothing of
    the base, so it changes nothing about which partitions are read. -#}
{% macro guarded(table, rows) -%}
  {{ '(' ~ table.guard.before ~ rows ~ table.guard.after ~ ')' if table.guard else rows }}
{%- endmacro %}


{#- The columns that bronze adds, with what a row of the batches puts into them. A row that a snapshot found gone is the
    snapshot's. -#}
{% macro values_of_bronze() -%}
  {{ return({
    '_loaded_at': '`batch row`._loaded_at',
    '_source_table': '`batch row`._source_table',
    '_batch_id': 'coalesce(`batch row`.`found gone`.batch_id, `batch row`._batch_id)',
    '_extracted_at': 'coalesce(`batch row`.`found gone`.extracted_at, `batch row`._extracted_at)',
    '_deleted_at': 'coalesce(`batch row`._deleted_at, `batch row`.`found gone`.extracted_at)',
  }) }}
{%- endmacro %}


{#- The names of all columns of a bronze table, the source's first. -#}
{% macro names_of(columns) -%}
  {% for column in columns %}{{ column_name(column) }}, {% endfor %}{{ added_columns().keys() | join(', ') }}
{%- endmacro %}
