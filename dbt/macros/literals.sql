{#- A value from outside as a BigQuery string literal. Only what would end the literal or the line is escaped, in JSON's
    way, which is BigQuery's too; everything else stays as it is. JSON's own text of a character beyond U+FFFF would be two
    halves that BigQuery refuses (https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#escape_sequences). -#}
{% macro text_literal(value) -%}
  {%- set escaped = [] -%}
  {%- for character in value | string -%}
    {%- do escaped.append(tojson(character)[1:-1] if character < ' ' or character in '"\\\x7f\x85\u2028\u2029' else character) -%}
  {%- endfor -%}
  "{{ escaped | join }}"
{%- endmacro %}


{#- The name of a table, project.dataset.table, quoted; anything else in it is refused. -#}
{% macro table_literal(name) -%}
  {%- if not modules.re.fullmatch('[A-Za-z0-9:.-]+[.][A-Za-z0-9_]+[.][A-Za-z0-9_]+', name) -%}
    {{ exceptions.raise_compiler_error("Not a table, project.dataset.table: " ~ name) }}
  {%- endif -%}
  `{{ name }}`
{%- endmacro %}


{#- A moment, RFC 3339 with its offset, as a TIMESTAMP. -#}
{% macro timestamp_literal(moment) -%}
  timestamp({{ text_literal(moment) }})
{%- endmacro %}


{#- A column's name, quoted: reserved words are names, too. -#}
{% macro column_name(column) -%}
  {%- if not modules.re.fullmatch('[^`\\\\\x00-\x1f]+', column.name) -%}
    {{ exceptions.raise_compiler_error("Not a column's name: " ~ column.name) }}
  {%- endif -%}
  {{ adapter.quote(column.name) }}
{%- endmacro %}
