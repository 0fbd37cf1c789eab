# The pipeline's state: a Firestore database. Losing it loses no row (the next run reads everything again), but it is
# where every watermark is, so nothing deletes it by accident.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "database" {
  description = "Id of the database. A (default) that is there already is imported: docs/deploy.md."
  type        = string
}

variable "location" {
  description = "Location of the database; it can never be changed."
  type        = string
}

variable "namespace" {
  description = "Prefix of the collections."
  type        = string
}

variable "point_in_time_recovery" {
  description = "Whether the state of any minute of the last week can be read; costs storage."
  type        = bool
}

variable "deletion_protection" {
  description = "Whether the database can't be deleted, by Terraform or by anybody."
  type        = bool
}

resource "google_firestore_database" "this" {
  name                              = var.database
  location_id                       = var.location
  type                              = "FIRESTORE_NATIVE"
  concurrency_mode                  = "OPTIMISTIC"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "PREVENT" : "DELETE"
}

# A run of the history says itself until when it is kept: services/core/state/state.py, RUN_HISTORY.
resource "google_firestore_field" "run_forget_after" {
  database   = google_firestore_database.this.name
  collection = "${var.namespace}-runs"
  field      = "forget_after"
  ttl_config {}
  # An index of a time that only grows would be one hot spot; nothing is asked by it.
  index_config {}
}

# What a run did is a tree of some hundred values that nobody searches: without this, each would be indexed twice.
resource "google_firestore_field" "run_details" {
  database   = google_firestore_database.this.name
  collection = "${var.namespace}-runs"
  field      = "details"
  index_config {}
}

output "database" {
  description = "Id of the database."
  value       = google_firestore_database.this.name
}
