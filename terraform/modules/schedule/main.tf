# Cloud Scheduler starts the jobs. Two executions of a job may overlap: leases keep them apart.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "project_id" {
  description = "Project of the jobs."
  type        = string
}

variable "region" {
  description = "Region of the jobs."
  type        = string
}

variable "account" {
  description = "E-mail address of the account that the jobs are started as."
  type        = string
}

variable "jobs" {
  description = "What is started when, by purpose: the job's name, cron."
  type        = map(object({ name = string, cron = string, description = string }))
}

variable "time_zone" {
  description = "Time zone of the crons."
  type        = string
}

variable "paused" {
  description = "Whether everything rests."
  type        = bool
}

resource "google_cloud_scheduler_job" "this" {
  for_each = var.jobs

  name        = each.value.name
  description = each.value.description
  region      = var.region
  schedule    = each.value.cron
  time_zone   = var.time_zone
  paused      = var.paused
  # To start an execution, not to wait for its end.
  attempt_deadline = "60s"

  retry_config {
    retry_count          = 3
    min_backoff_duration = "10s"
    max_backoff_duration = "60s"
  }
  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/projects/${var.project_id}/locations/${var.region}/jobs/${each.value.name}:run"
    oauth_token {
      service_account_email = var.account
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }
}
