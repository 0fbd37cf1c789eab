select
  {{ rejection_reason() }} as rejection_reason,
  *
from {{ ref('installments') }}
where _deleted_at is null and {{ rejection_reason() }} is not null
