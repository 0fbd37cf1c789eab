-- One row when installments got lost, or doubled, between bronze and silver.
with counted as (
  select
    (
      select count(*) from {{ ref('installments') }}
      where _deleted_at is null
    ) as in_bronze,
    (select count(*) from {{ ref('installments_clean') }}) as clean,
    (select count(*) from {{ ref('installments_rejected') }}) as rejected
)

select *
from counted
where in_bronze != clean + rejected
