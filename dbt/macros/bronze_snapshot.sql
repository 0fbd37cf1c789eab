{#- A bronze table without a key holds one snapshot whole, doubled rows included; nothing in it can be matched.

    The newest snapshot that is known replaces the one that is held, in one MERGE: rows of older snapshots are deleted,
    the new rows are inserted, both or neither. So readers see one snapshot or the other, and whichever comes last leaves
    the newer snapshot. When the run brings only older ones, nothing is written. Every row is exactly as new as its
    snapshot. -#}
{% macro merge_of_snapshot(table, base) -%}
{%- set columns = table.columns -%}
{%- set batch = snapshot_to_hold(table) -%}
merge into {{ base }} as `bronze row`
using (
  select `read row`.*
  from (
    {{ guarded(table, batch.rows) if batch else rows_of_none(columns) }}
  ) as `read row`
  {%- if batch %}
  where not exists (
    select 1 from {{ base }} as `bronze row` where not {{ is_older('`bronze row`', snapshot_version(batch)) }}
  )
  {%- endif %}
) as `batch row`
on false
{%- if batch %}
when not matched by source and {{ is_older('`bronze row`', snapshot_version(batch)) }} then delete
{%- endif %}
when not matched by target then insert ({{ names_of(columns) }})
values (
  {%- for column in columns %}
  `batch row`.{{ column_name(column) }},
  {%- endfor %}
  {%- for name in added_columns() %}
  `batch row`.{{ name }}{{ ',' if not loop.last }}
  {%- endfor %}
)
{%- endmacro %}


{#- The newest of the run's batches, none when a newer one was merged before. -#}
{% macro snapshot_to_hold(table) -%}
  {%- set newest = namespace(batch=none) -%}
  {%- for batch in table.batches -%}
    {%- if not batch.snapshot -%}
      {{ exceptions.raise_compiler_error("Batch " ~ batch.batch_id ~ " is not a snapshot, and " ~ model.name ~ " has no key.") }}
    {%- endif -%}
    {%- set merged = table.merged_snapshot -%}
    {%- set overtaken = merged and snapshot_version(batch) < snapshot_version(merged) -%}
    {%- if not overtaken and (newest.batch is none or snapshot_version(newest.batch) < snapshot_version(batch)) -%}
      {%- set newest.batch = batch -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(newest.batch) }}
{%- endmacro %}


{#- No rows, with the columns of a bronze table. -#}
{% macro rows_of_none(columns) -%}
  select
    {%- for column in columns %}
    cast(null as {{ column.data_type }}) as {{ column_name(column) }},
    {%- endfor %}
    {%- for name, type in added_columns().items() %}
    cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
    {%- endfor %}
  from (select 1 as nothing)
  where false
{%- endmacro %}
