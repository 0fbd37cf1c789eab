{{ config(cluster_by=['asset_id']) }}
{{ bronze() }}
