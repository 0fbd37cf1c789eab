{#- When a snapshot was taken, and its batch: what orders snapshots among one another and among versions of rows. -#}
{% macro snapshot_version(batch) -%}
  {{ return((modules.datetime.datetime.fromisoformat(batch.extracted_at), batch.batch_id)) }}
{%- endmacro %}


{#- The snapshots after which a row that they don't have is deleted, oldest first: the run's own, and the newest of those
    that are in bronze already, which a batch that comes late must not go behind. -#}
{% macro deleting_snapshots(table) -%}
  {%- set versions = [] -%}
  {%- if table.deletes == 'soft' -%}
    {%- for batch in table.batches if batch.snapshot -%}{%- do versions.append(snapshot_version(batch)) -%}{%- endfor -%}
    {%- if table.merged_snapshot -%}{%- do versions.append(snapshot_version(table.merged_snapshot)) -%}{%- endif -%}
  {%- endif -%}
  {{ return(versions | unique | sort) }}
{%- endmacro %}


{#- Whether a row's version is older than a snapshot. -#}
{% macro is_older(row, snapshot) -%}
  {%- set extracted_at, batch_id = timestamp_literal(snapshot[0].isoformat()), text_literal(snapshot[1]) -%}
  ({{ row }}._extracted_at < {{ extracted_at }} or ({{ row }}._extracted_at = {{ extracted_at }} and {{ row }}._batch_id < {{ batch_id }}))
{%- endmacro %}


{#- The first of the snapshots, oldest first, that a living row's version is older than, else null. -#}
{% macro first_newer(row, snapshots) -%}
  {%- if snapshots -%}
  case
      when {{ row }}._deleted_at is not null then null
      {%- for snapshot in snapshots %}
      when {{ is_older(row, snapshot) }}
        then struct({{ timestamp_literal(snapshot[0].isoformat()) }} as extracted_at, {{ text_literal(snapshot[1]) }} as batch_id)
      {%- endfor %}
    end
  {%- else -%}
  cast(null as struct<extracted_at timestamp, batch_id string>)
  {%- endif -%}
{%- endmacro %}
