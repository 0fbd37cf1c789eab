{#- What a job says of itself, as a comment before its SQL and as the job's labels: so the bytes billed can be summed by
    layer and by node in INFORMATION_SCHEMA.JOBS. dbt adds dbt_invocation_id; `credix_stage` is a label that the loader's
    and the report's jobs have, too. A test in dbt/tests reads several layers. -#}
{% macro query_comment(node) -%}
  {%- set labels = {'credix_stage': 'dbt'} -%}
  {%- if node is not none -%}
    {%- set layer = ['bronze', 'silver', 'gold'] | select('in', node.fqn) | first -%}
    {%- do labels.update(credix_layer=layer or 'several', credix_node=node.name) -%}
    {%- do labels.update(credix_kind=node.resource_type | string) -%}
  {%- endif -%}
  {{ return(tojson(labels)) }}
{%- endmacro %}
