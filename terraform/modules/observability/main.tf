# Metrics from the services' logs, and who is told of what. The runbook of each alert is in docs/operations.md.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "metric_prefix" {
  description = "What the metrics' names begin with."
  type        = string
}

variable "display_name" {
  description = "What alerts, dashboard and budget are called."
  type        = string
}

variable "alerts" {
  description = "Who is told, and from when on."
  type        = object({ emails = list(string), lag_hours = number, waiting_minutes = number, extraction_silent_h = number })
}

variable "services" {
  description = "Names of the Cloud Run services, by purpose."
  type        = map(string)
}

variable "jobs" {
  description = "Names of the Cloud Run jobs, by purpose."
  type        = map(string)
}

variable "dead_letter_subscriptions" {
  description = "Names of the subscriptions that keep dead letters."
  type        = list(string)
}

variable "budget" {
  description = "Monthly budget, or null."
  type        = object({ billing_account = string, amount = number, currency = string })
  default     = null
}

variable "daily_query_quota_tib" {
  description = "Most TiB that queries may read in a day, or null."
  type        = number
  default     = null
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alerts.emails)

  display_name = each.value
  type         = "email"
  labels       = { email_address = each.value }
}

data "google_project" "this" {}

resource "google_billing_budget" "monthly" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "${var.display_name}, monthly"

  budget_filter {
    # By number, as the API answers: by id, every plan would have a change.
    projects        = ["projects/${data.google_project.this.number}"]
    calendar_period = "MONTH"
  }
  amount {
    specified_amount {
      currency_code = var.budget.currency
      units         = tostring(floor(var.budget.amount))
    }
  }
  dynamic "threshold_rules" {
    for_each = { 0.5 = "CURRENT_SPEND", 0.9 = "CURRENT_SPEND", 1 = "CURRENT_SPEND", 1.2 = "FORECASTED_SPEND" }
    content {
      threshold_percent = tonumber(threshold_rules.key)
      spend_basis       = threshold_rules.value
    }
  }
  all_updates_rule {
    monitoring_notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
    disable_default_iam_recipients   = false
  }
}

# What stops a runaway, where the budget only tells of it: https://cloud.google.com/bigquery/docs/custom-quotas
resource "google_cloud_quotas_quota_preference" "queries" {
  count = var.daily_query_quota_tib == null ? 0 : 1

  parent   = "projects/${data.google_project.this.number}"
  name     = "bigquery_googleapis_com-QueryUsagePerDay"
  service  = "bigquery.googleapis.com"
  quota_id = "QueryUsagePerDay"
  # From BigQuery's 200 TiB it is a large step down, as is meant.
  ignore_safety_checks = "QUOTA_DECREASE_PERCENTAGE_TOO_HIGH"

  quota_config {
    # In MiB.
    preferred_value = tostring(floor(var.daily_query_quota_tib * 1024 * 1024))
  }
}
