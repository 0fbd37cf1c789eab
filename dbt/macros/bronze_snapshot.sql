{#- A bronze table without a key holds one snapshot whole, doubled rows included; nothing in it can be matched.

    The newest snapshot that is known replaces the one that is held, in one MERGE: rows of older snapshots are deleted,
    the new rows are inserted, both or neither. So readers see one snapshot or the other, BigQuery never lets two such
    statements pass each other, and whichever comes last leaves the newer snapshot. When the run brings no snapshot, or
    only older ones, nothing is written. Every row is exactly as new as its snapshot. -#}
{% macro newest_snapshot(batches) -%}
{%- set columns = source_columns(batches) -%}
{%- set batch = snapshot_to_hold(batches) -%}
select *
from (
  {{ rows_of_batches(columns, [batch] if batch else [], by_row=false) }}
) as snapshot
{%- if batch and is_incremental() %}
where not exists (select 1 from {{ this }} as held where not {{ is_older('held', snapshot_version(batch)) }})
{%- endif %}
{%- endmacro %}


{#- The newest of the run's batches, none when there is none or a newer one was merged before. -#}
{% macro snapshot_to_hold(batches) -%}
  {%- set newest = namespace(batch=none) -%}
  {%- for batch in batches -%}
    {%- if not batch.snapshot -%}
      {{ exceptions.raise_compiler_error("Batch " ~ batch.batch_id ~ " is not a snapshot, and " ~ model.name ~ " has no unique_key.") }}
    {%- endif -%}
    {%- set overtaken = batch.merged_snapshot and snapshot_version(batch) < snapshot_version(batch.merged_snapshot) -%}
    {%- if not overtaken and (newest.batch is none or snapshot_version(newest.batch) < snapshot_version(batch)) -%}
      {%- set newest.batch = batch -%}
    {%- endif -%}
  {%- endfor -%}
  {{ return(newest.batch) }}
{%- endmacro %}


{#- The MERGE that dbt writes, with the key's names quoted, and only on the partitions that can match; without a key, the
    one that replaces a snapshot. In place of dbt's own, which without a key only inserts. -#}
{% macro bigquery__get_merge_sql(target, source, unique_key, dest_columns, incremental_predicates=none) -%}
  {%- if unique_key -%}
    {%- set touched = touched_partitions('DBT_INTERNAL_DEST') -%}
    {%- set quoted = [] -%}
    {%- for name in ([unique_key] if unique_key is string else unique_key) -%}
      {%- do quoted.append(adapter.quote(name)) -%}
    {%- endfor -%}
    {%- set predicates = (incremental_predicates or []) + ([touched] if touched else []) -%}
    {{ dbt.default__get_merge_sql(target, source, quoted, dest_columns, predicates) }}
  {%- else -%}
    {%- set batch = snapshot_to_hold(run_batches()) -%}
    {%- set names = get_quoted_csv(dest_columns | map(attribute='name')) -%}
    merge into {{ target }} as DBT_INTERNAL_DEST
    using {{ source }} as DBT_INTERNAL_SOURCE
    on false
    {%- if batch %}
    when not matched by source and {{ is_older('DBT_INTERNAL_DEST', snapshot_version(batch)) }} then delete
    {%- endif %}
    when not matched by target then insert ({{ names }}) values ({{ names }})
  {%- endif -%}
{%- endmacro %}
