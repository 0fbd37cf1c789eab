{{ config(cluster_by=['carrier']) }}

{{ bronze() }}
