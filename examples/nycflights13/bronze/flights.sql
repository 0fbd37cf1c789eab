{{ config(unique_key=['time_hour', 'carrier', 'flight'], cluster_by=['carrier']) }}

{{ bronze() }}
