select
  {{ rejection_reason() }} as rejection_reason,
  *
from {{ ref('installments') }}
where {{ rejection_reason() }} is not null
