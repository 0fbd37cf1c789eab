{% test between(model, column_name, low, high) %}
{#- Rows whose value is not within [low, high]; a null counts as outside. -#}
select {{ column_name }}
from {{ model }}
where {{ column_name }} is null or {{ column_name }} not between {{ low }} and {{ high }}
{% endtest %}
