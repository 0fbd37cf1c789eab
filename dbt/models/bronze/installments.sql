{{ config(unique_key=['asset_id'], cluster_by=['asset_id']) }}
{{ bronze() }}
