{{ config(cluster_by=['buyer_tax_id']) }}
{{ bronze() }}
