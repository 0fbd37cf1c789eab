# The prod environment: where its state is, and its values (terraform.tfvars). What it consists of: modules/pipeline.

terraform {
  required_version = ">= 1.9, < 2.0"
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
  backend "gcs" {
    bucket = "credix-prod-terraform-state"
    prefix = "pipeline"
  }
}

provider "google" {
  project = var.project_id
  region  = var.region
  # The budget's API asks whose quota a call is.
  user_project_override = true
  billing_project       = var.project_id
  default_labels        = { application = var.prefix, environment = var.environment }
}

module "pipeline" {
  source = "../../modules/pipeline"

  project_id          = var.project_id
  environment         = var.environment
  region              = var.region
  bigquery_location   = var.bigquery_location
  prefix              = var.prefix
  qualifier           = var.qualifier
  buckets             = var.buckets
  datasets            = var.datasets
  object_prefix       = var.object_prefix
  retention           = var.retention
  deletion_protection = var.deletion_protection
  report_public       = var.report_public
  groups              = var.groups
  delivery            = var.delivery
  source_database     = var.source_database
  network             = var.network
  secrets_in_use      = var.secrets_in_use
  state               = var.state
  extractor           = var.extractor
  loader              = var.loader
  transformer         = var.transformer
  tuning              = var.tuning
  schedules           = var.schedules
  alerts              = var.alerts
  budget              = var.budget

  daily_query_quota_tib = var.daily_query_quota_tib
}

output "pipeline" {
  description = "Everything that a build, a workflow and an operator need to know: modules/pipeline/outputs.tf."
  value       = module.pipeline
}
