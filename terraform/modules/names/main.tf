# Every name that is not the environment's own choice, from a prefix and a qualifier. The limits are Google Cloud's:
# what does not fit is said at plan time, with the name.

terraform {
  required_version = ">= 1.9, < 2.0"
}

variable "prefix" {
  description = "First part of every name."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,11}$", var.prefix)) && !can(regex("-$|--|^goog", var.prefix))
    error_message = "prefix is 2 to 12 lower-case letters, digits, single hyphens, not ending in one, not beginning with goog."
  }
}

variable "qualifier" {
  description = "Last part of every name, or empty."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([a-z0-9]{1,5})?$", var.qualifier))
    error_message = "qualifier is empty or at most 5 lower-case letters and digits."
  }
}

variable "datasets" {
  description = "First part of the datasets' names."
  type        = string
  default     = "business_case"
}

locals {
  name = { for purpose in [
    "landing", "batch-loaded", "alerts", "extractor", "loader", "transformer", "sweep", "reconcile", "audit", "observe",
    "push", "scheduler", "build", "plan", "images", "github", "network",
    "postgres-password", "mask-secret", "slack-webhook", "teams-webhook",
  ] : purpose => join("-", compact([var.prefix, purpose, var.qualifier])) }

  accounts = { for purpose in ["extractor", "loader", "transformer", "push", "scheduler", "build", "plan"] : purpose => local.name[purpose] }
  services = { for purpose in ["loader", "transformer"] : purpose => local.name[purpose] }
  jobs     = { for purpose in ["extractor", "sweep", "reconcile", "audit", "observe"] : purpose => local.name[purpose] }
  topics   = { landing = local.name["landing"], batch_loaded = local.name["batch-loaded"], alerts = local.name["alerts"] }
  secrets = {
    POSTGRES_PASSWORD   = local.name["postgres-password"]
    EXTRACT_MASK_SECRET = local.name["mask-secret"]
    SLACK_WEBHOOK       = local.name["slack-webhook"]
    TEAMS_WEBHOOK       = local.name["teams-webhook"]
  }
  datasets = { for layer in ["temp", "bronze", "silver", "gold", "elementary"] :
    layer => join("_", compact([var.datasets, layer, var.qualifier]))
  }
}

output "accounts" {
  description = "Ids of service accounts, by purpose."
  value       = local.accounts
  precondition {
    condition     = alltrue([for name in values(local.accounts) : can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", name))])
    error_message = "A service account's id has 6 to 30 characters; these are ${join(", ", values(local.accounts))}."
  }
}

output "services" {
  description = "Names of Cloud Run services and of their push subscriptions, by purpose."
  value       = local.services
  precondition {
    condition     = alltrue([for name in values(local.services) : length(name) <= 49])
    error_message = "A Cloud Run service's name has at most 49 characters; these are ${join(", ", values(local.services))}."
  }
}

output "jobs" {
  description = "Names of Cloud Run jobs and of their schedules, by purpose."
  value       = local.jobs
  precondition {
    condition     = alltrue([for name in values(local.jobs) : length(name) <= 63])
    error_message = "A Cloud Run job's name has at most 63 characters; these are ${join(", ", values(local.jobs))}."
  }
}

output "topics" {
  description = "Names of topics, by purpose. A topic's dead letters go to <name>-dead-letter."
  value       = local.topics
}

output "secrets" {
  description = "Ids of secrets, by the variable that a service reads."
  value       = local.secrets
}

output "datasets" {
  description = "Ids of datasets, by layer."
  value       = merge(local.datasets, { elementary__tests = "${local.datasets["elementary"]}__tests" })
}

output "repository" {
  description = "Id of the Artifact Registry repository."
  value       = local.name["images"]
}

output "pool" {
  description = "Id of the workload identity pool, and of its provider."
  value       = local.name["github"]
  precondition {
    condition     = length(local.name["github"]) >= 4 && length(local.name["github"]) <= 32
    error_message = "A workload identity pool's id has 4 to 32 characters; this is ${local.name["github"]}."
  }
}

output "network" {
  description = "Name of the network and its subnetwork, where they are made."
  value       = local.name["network"]
}

output "metrics" {
  description = "What the names of log-based metrics begin with."
  value       = join("_", compact([replace(var.prefix, "-", "_"), var.qualifier]))
}
