# Topics and subscriptions: what lands is told to the loader, what is loaded to the transformer; what nobody could
# handle in so many attempts waits in a dead-letter subscription for a person.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "project_id" {
  description = "The project."
  type        = string
}

variable "topics" {
  description = "Names of the topics."
  type        = object({ landing = string, batch_loaded = string, alerts = string })
}

variable "push" {
  description = "Push subscriptions by topic: their name, the service's address."
  type        = map(object({ name = string, endpoint = string }))
  validation {
    condition     = alltrue([for topic in keys(var.push) : contains(["landing", "batch_loaded"], topic)])
    error_message = "There is a push subscription for landing and for batch_loaded."
  }
}

variable "push_account" {
  description = "E-mail address of the account that push requests are signed for."
  type        = string
}

variable "landing_bucket" {
  description = "Bucket whose new objects are told to the landing topic."
  type        = string
}

variable "landing_prefix" {
  description = "Only objects below this prefix, without the slash at its end: a notification costs a call of the loader."
  type        = string
}

variable "dead_letter_days" {
  description = "Days for which dead letters wait."
  type        = number
}

variable "most_attempts" {
  description = "Deliveries after which a message is a dead letter, 5 to 100. With pauses of 10 s to 10 min, 20 take more than two hours."
  type        = number
  default     = 20
}

data "google_project" "this" {}
data "google_storage_project_service_account" "this" {}

locals {
  # Google's own accounts: they publish notifications, forward dead letters, and sign the push requests.
  pubsub_agent  = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
  storage_agent = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

resource "google_pubsub_topic" "this" {
  #checkov:skip=CKV_GCP_83:Keys are Google's: messages hold names of objects and batches, no rows.
  for_each = var.topics
  name     = each.value
}

resource "google_pubsub_topic" "dead_letter" {
  #checkov:skip=CKV_GCP_83:As the topics.
  for_each = var.push
  name     = "${var.topics[each.key]}-dead-letter"
}

resource "google_pubsub_subscription" "push" {
  for_each = var.push

  name                 = each.value.name
  topic                = google_pubsub_topic.this[each.key].id
  ack_deadline_seconds = 600
  # Longer than a dead letter takes to become one.
  message_retention_duration = "604800s"

  push_config {
    push_endpoint = each.value.endpoint
    oidc_token {
      service_account_email = var.push_account
      audience              = each.value.endpoint
    }
  }
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letter[each.key].id
    max_delivery_attempts = var.most_attempts
  }
  # A pipeline that rests for a month still has its subscriptions.
  expiration_policy {
    ttl = ""
  }
  depends_on = [google_pubsub_topic_iam_member.forwards_dead_letters]
}

resource "google_pubsub_subscription" "dead_letter" {
  for_each = var.push

  name                       = google_pubsub_topic.dead_letter[each.key].name
  topic                      = google_pubsub_topic.dead_letter[each.key].id
  message_retention_duration = "${var.dead_letter_days * 86400}s"
  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "alerts" {
  name                       = google_pubsub_topic.this["alerts"].name
  topic                      = google_pubsub_topic.this["alerts"].id
  message_retention_duration = "${var.dead_letter_days * 86400}s"
  expiration_policy {
    ttl = ""
  }
}

resource "google_storage_notification" "landing" {
  bucket             = var.landing_bucket
  topic              = google_pubsub_topic.this["landing"].id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = "${var.landing_prefix}/"
  depends_on         = [google_pubsub_topic_iam_member.notifies]
}

resource "google_pubsub_topic_iam_member" "notifies" {
  topic  = google_pubsub_topic.this["landing"].id
  role   = "roles/pubsub.publisher"
  member = local.storage_agent
}

resource "google_pubsub_topic_iam_member" "forwards_dead_letters" {
  for_each = var.push
  topic    = google_pubsub_topic.dead_letter[each.key].id
  role     = "roles/pubsub.publisher"
  member   = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "forwards_dead_letters" {
  for_each     = var.push
  subscription = google_pubsub_subscription.push[each.key].id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

resource "google_service_account_iam_member" "signs_push_requests" {
  service_account_id = "projects/${var.project_id}/serviceAccounts/${var.push_account}"
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
}

output "topics" {
  description = "Names of the topics, when they are there."
  value       = { for purpose, topic in google_pubsub_topic.this : purpose => topic.name }
}

output "dead_letter_subscriptions" {
  description = "Names of the subscriptions that keep dead letters, by topic."
  value       = { for purpose, subscription in google_pubsub_subscription.dead_letter : purpose => subscription.name }
}

output "alert_subscription" {
  description = "Name of the subscription that keeps what the loader refused."
  value       = google_pubsub_subscription.alerts.name
}
