{% test no_rows(model) %}
{#- Every row of the model: for models that hold what should not be there. -#}
select * from {{ model }}
{% endtest %}
