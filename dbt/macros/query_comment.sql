{#- What a job says of itself, as a comment before its SQL and as the job's labels: so the bytes billed can be summed by
    stage, layer, table, model and test (services/core/cost). `credix_stage` and `credix_table` are labels that the
    loader's and the report's jobs have, too (services/core/labels.py). The run is a label only, as dbt's own
    dbt_invocation_id is: a text that is new in every run is never answered from BigQuery's cache. What the transformer
    hands over in the variable `credix` is read when a job is sent: it changes nothing that is parsed. -#}
{% macro query_comment(node) -%}
  {%- set given = var('credix', {}) -%}
  {%- set labels = dict(given.get('labels') or {'credix_stage': 'dbt'}) -%}
  {%- if node is not none -%}
    {%- set layer = ['bronze', 'silver', 'gold'] | select('in', node.fqn) | first -%}
    {%- set elementary = 'elementary' if node.package_name in ('elementary', 'observability') -%}
    {%- do labels.update(credix_layer=layer or elementary or 'several', credix_kind=node.resource_type | string) -%}
    {%- do labels.update(credix_node=credix.job_label(node.name)) -%}
    {%- set model = credix.model_of(node) -%}
    {%- if model -%}
      {%- do labels.update(credix_model=credix.job_label(model)) -%}
      {%- if layer == 'bronze' and model in given.get('tables', {}) -%}
        {%- do labels.update(credix_table=given['tables'][model]) -%}
      {%- endif -%}
    {%- endif -%}
  {%- endif -%}
  {{ return(tojson(labels)) }}
{%- endmacro %}


{#- The model that a node is, or that a test is of; none for a test of several. -#}
{% macro model_of(node) -%}
  {%- if node.resource_type | string == 'model' -%}{{ return(node.name) }}{%- endif -%}
  {%- set models = [] -%}
  {%- for id in ([node.attached_node] if node.attached_node else node.depends_on.nodes or []) -%}
    {%- if id.startswith('model.') -%}{%- do models.append(id.split('.')[2]) -%}{%- endif -%}
  {%- endfor -%}
  {{ return(models[0] if models | unique | list | length == 1 else none) }}
{%- endmacro %}


{#- A name as a label's value; services/core/labels.py has the same rule, and a test that says so. -#}
{% macro job_label(name) -%}
  {%- if modules.re.fullmatch('[a-z0-9_-]{0,63}', name) -%}{{ return(name) }}{%- endif -%}
  {{ return(modules.re.sub('[^a-z0-9_-]', '_', name | lower)[:30] ~ '-' ~ local_md5(name)) }}
{%- endmacro %}
