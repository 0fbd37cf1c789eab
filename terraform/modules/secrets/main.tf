# Secrets without values: those are added by a person (docs/deploy.md), so no plan, state or repository has one.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "names" {
  description = "Ids of the secrets, by the variable that a service reads."
  type        = map(string)
}

variable "location" {
  description = "Region in which the values are kept."
  type        = string
}

variable "deletion_protection" {
  description = "Whether a destroy is refused."
  type        = bool
}

resource "google_secret_manager_secret" "this" {
  for_each = var.names

  secret_id           = each.value
  deletion_protection = var.deletion_protection
  # An old value can be taken back into use for a week after somebody destroyed it.
  version_destroy_ttl = "604800s"
  replication {
    user_managed {
      replicas {
        location = var.location
      }
    }
  }
}

output "ids" {
  description = "Ids of the secrets, by variable."
  value       = { for variable, secret in google_secret_manager_secret.this : variable => secret.secret_id }
}
