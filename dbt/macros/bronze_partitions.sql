{#- Which partitions of the base a MERGE touches: a condition on it, by its `alias`, or nothing.

    A MERGE reads, and pays for, the whole table unless its condition names the partitions in constants; a subquery does
    not prune (https://cloud.google.com/bigquery/docs/using-dml-with-partitioned-tables#using_merge_statement). So the
    least and greatest values of the batches, and of the delta, are asked for first.

    Only for a table that is partitioned by a column of its key: the row with a batch's key is then nowhere else. Any
    other column may change, whatever is said of it; the row would be in another partition, would not be found there,
    and be inserted a second time. Nor when a snapshot looks for rows that are gone, which can be anywhere. -#}
{% macro touched_partitions(table, delta, alias) -%}
{%- set partition_by = adapter.parse_partition_by(config.get('partition_by', none)) -%}
{%- if partition_by is not none and partition_by.field in table.key and not gone_rows_are_sought(table) -%}
  {%- set column = adapter.quote(partition_by.field) -%}
  {%- set question -%}
    select cast(min(least) as string) as least, cast(max(greatest) as string) as greatest
    from (
      {%- set tables = [delta | string] if table.delta else [] -%}
      {%- for batch in table.batches -%}{%- do tables.append(table_literal(batch.table)) -%}{%- endfor -%}
      {%- for each in tables %}
      {{ 'union all' if not loop.first }}
      select min({{ column }}) as least, max({{ column }}) as greatest from {{ each }}
      {%- endfor %}
    )
  {%- endset -%}
  {%- set answer = run_query(question).rows[0] -%}
  {%- if answer[0] is not none -%}
    {%- set bounds = [] -%}
    {%- for bound in answer -%}
      {%- do bounds.append('cast(' ~ text_literal(bound | string) ~ ' as ' ~ partition_by.data_type ~ ')') -%}
    {%- endfor -%}
    {{ alias }}.{{ column }} between {{ bounds[0] }} and {{ bounds[1] }}
  {%- endif -%}
{%- endif -%}
{%- endmacro %}


{#- Whether a snapshot of the run looks for rows in the whole table. -#}
{% macro gone_rows_are_sought(table) -%}
  {{ return(table.deletes == 'soft' and table.batches | selectattr('snapshot') | list != []) }}
{%- endmacro %}
