# dev: small, cheap, may be destroyed with all that is in it.
project_id        = "credix-data-dev"
environment       = "dev"
region            = "southamerica-east1"
bigquery_location = "southamerica-east1"

buckets = {
  landing   = "data_lake_credix_dev"
  archive   = "data_lake_credix_dev_archive"
  report    = "credix-elementary-report-dev"
  artifacts = "credix-dbt-artifacts-dev"
}

retention = {
  landing        = 14
  failed         = 30
  archive        = 30
  archive_coldly = 0
  report         = 30
  artifacts      = 14
  soft_delete    = 0
}
deletion_protection = false

groups   = { operators = "data-engineering@credix.example" }
delivery = { github_repository = "credix/credix-data-pipeline", state_bucket = "credix-dev-terraform-state" }

source_database = {
  cloud_sql_instance = "credix-data-dev:southamerica-east1:transactions"
  user               = "credix_pipeline"
}

schedules = {
  extract   = "0 * * * *"
  sweep     = "20 * * * *"
  reconcile = "40 * * * *"
  observe   = "0 9 * * 1-5"
  time_zone = "America/Sao_Paulo"
}

alerts = {
  emails          = ["data-engineering@credix.example"]
  lag_hours       = 96
  waiting_minutes = 180
}
budget = { billing_account = "012345-6789AB-CDEF01", amount = 50 }

# Stops a runaway: queries of the whole project, people's too.
daily_query_quota_tib = 0.25
