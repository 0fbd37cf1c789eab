# How code gets here: GitHub's pull requests may look (plan), Cloud Build's builds put images into services and jobs that
# are there. Neither can change what anybody may do: infrastructure is applied by a person, who has read the plan.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "project_id" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Region of services, jobs and images."
  type        = string
}

variable "accounts" {
  description = "Ids of the two accounts: build, plan."
  type        = object({ build = string, plan = string })
}

variable "pool" {
  description = "Id of the workload identity pool, and of its provider."
  type        = string
}

variable "github_repository" {
  description = "owner/name of the repository; its workflows alone may become the plan account."
  type        = string
}

variable "state_bucket" {
  description = "Bucket of Terraform's state; it is read for a plan."
  type        = string
}

variable "repository" {
  description = "Id of the Artifact Registry repository."
  type        = string
}

variable "runs_as" {
  description = "E-mail addresses of the accounts that services and jobs run as, by purpose: a build deploys as nobody else."
  type        = map(string)
}

variable "services" {
  description = "Names of the Cloud Run services, by purpose."
  type        = map(string)
}

variable "jobs" {
  description = "Names of the Cloud Run jobs, by purpose."
  type        = map(string)
}

resource "google_service_account" "build" {
  account_id   = var.accounts.build
  display_name = "Pipeline: build"
  description  = "Cloud Build builds, plans, and deploys images as it."
}

resource "google_service_account" "plan" {
  account_id   = var.accounts.plan
  display_name = "Pipeline: plan"
  description  = "Pull requests plan as it: it reads how things are, no data."
}

resource "google_iam_workload_identity_pool" "github" {
  workload_identity_pool_id = var.pool
  display_name              = "GitHub"
  description               = "Workflows of ${var.github_repository}"
}

resource "google_iam_workload_identity_pool_provider" "github" {
  #checkov:skip=CKV_GCP_125:The condition below names the one repository.
  workload_identity_pool_id          = google_iam_workload_identity_pool.github.workload_identity_pool_id
  workload_identity_pool_provider_id = var.pool
  display_name                       = "GitHub Actions"
  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }
  attribute_condition = "assertion.repository == \"${var.github_repository}\""
  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account_iam_member" "github_plans" {
  service_account_id = google_service_account.plan.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github.name}/attribute.repository/${var.github_repository}"
}

# What a plan reads: how each resource is and who may do what with it. Not roles/viewer, which reads objects too.
resource "google_project_iam_member" "plans" {
  for_each = { for pair in setproduct(["build", "plan"], [
    "roles/artifactregistry.reader",
    "roles/bigquery.metadataViewer",
    "roles/browser",
    "roles/cloudscheduler.viewer",
    "roles/compute.networkViewer",
    "roles/datastore.viewer",
    "roles/iam.securityReviewer",
    "roles/iam.workloadIdentityPoolViewer",
    "roles/logging.viewer",
    "roles/monitoring.viewer",
    "roles/pubsub.viewer",
    "roles/run.viewer",
    "roles/secretmanager.viewer",
    "roles/serviceusage.serviceUsageConsumer",
    "roles/storage.bucketViewer",
  ]) : join(" ", pair) => { who = pair[0], role = pair[1] } }

  project = var.project_id
  role    = each.value.role
  member  = "serviceAccount:${each.value.who == "build" ? google_service_account.build.email : google_service_account.plan.email}"
}

resource "google_storage_bucket_iam_member" "reads_state" {
  for_each = { build = google_service_account.build.email, plan = google_service_account.plan.email }

  bucket = var.state_bucket
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${each.value}"
}

# What a build does.
resource "google_artifact_registry_repository_iam_member" "pushes" {
  location   = var.region
  repository = var.repository
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:${google_service_account.build.email}"
}

resource "google_project_iam_member" "builds" {
  for_each = toset(["roles/logging.logWriter", "roles/ondemandscanning.admin"])

  project = var.project_id
  role    = each.value
  member  = "serviceAccount:${google_service_account.build.email}"
}

resource "google_cloud_run_v2_service_iam_member" "deploys" {
  for_each = var.services

  location = var.region
  name     = each.value
  role     = "roles/run.developer"
  member   = "serviceAccount:${google_service_account.build.email}"
}

resource "google_cloud_run_v2_job_iam_member" "deploys" {
  for_each = var.jobs

  location = var.region
  name     = each.value
  role     = "roles/run.developer"
  member   = "serviceAccount:${google_service_account.build.email}"
}

resource "google_cloud_run_v2_job_iam_member" "smokes" {
  for_each = var.jobs

  location = var.region
  name     = each.value
  role     = "roles/run.jobsExecutorWithOverrides"
  member   = "serviceAccount:${google_service_account.build.email}"
}

resource "google_service_account_iam_member" "deploys_as" {
  for_each = var.runs_as

  service_account_id = "projects/${var.project_id}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${google_service_account.build.email}"
}

output "build_account" {
  description = "Resource name of the account that builds run as, for `gcloud builds submit --service-account`."
  value       = google_service_account.build.name
}

output "plan_account" {
  description = "E-mail address of the account that pull requests plan as."
  value       = google_service_account.plan.email
}

output "provider" {
  description = "Full name of the workload identity provider, for the GitHub workflow."
  value       = google_iam_workload_identity_pool_provider.github.name
}

output "repository_condition" {
  description = "Whose tokens are accepted; for tests."
  value       = google_iam_workload_identity_pool_provider.github.attribute_condition
}
