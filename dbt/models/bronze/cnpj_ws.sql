{{ config(unique_key=['buyer_tax_id'], cluster_by=['buyer_tax_id']) }}
{{ bronze() }}
