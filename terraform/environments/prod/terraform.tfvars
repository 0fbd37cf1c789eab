# prod: nothing is destroyed by accident, everybody concerned is told.
project_id        = "credix-data-prod"
environment       = "prod"
region            = "southamerica-east1"
bigquery_location = "southamerica-east1"

buckets = {
  landing   = "data_lake_credix"
  archive   = "data_lake_credix_archive"
  report    = "credix-elementary-report"
  artifacts = "credix-dbt-artifacts"
}

groups   = { operators = "data-engineering@credix.example", analysts = "credit-risk@credix.example" }
delivery = { github_repository = "credix/credix-data-pipeline", state_bucket = "credix-prod-terraform-state" }

# The server has a private address; the network is its own project's, shared with this one.
source_database = { host = "10.20.0.5", user = "credix_pipeline" }
network = {
  network    = "projects/credix-network-prod/global/networks/data"
  subnetwork = "projects/credix-network-prod/regions/southamerica-east1/subnetworks/pipeline"
}

state       = { point_in_time_recovery = true }
extractor   = { cpu = "2", memory = "4Gi", tasks = 2 }
transformer = { max_bytes_billed = 1000000000000 }

schedules = { observe = "0 */6 * * *", time_zone = "America/Sao_Paulo" }

alerts = {
  emails = ["data-engineering@credix.example", "on-call@credix.example"]
}
budget = { billing_account = "012345-6789AB-CDEF01", amount = 500 }

# Stops a runaway: queries of the whole project, people's too.
daily_query_quota_tib = 2
