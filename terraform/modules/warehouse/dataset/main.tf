# One dataset whose readers and writers are exactly those named here: whoever only has a basic role in the project
# (viewer, editor) reads nothing.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "project_id" {
  description = "The project."
  type        = string
}

variable "id" {
  description = "Id of the dataset."
  type        = string
}

variable "location" {
  description = "Where it is."
  type        = string
}

variable "description" {
  description = "What is in it."
  type        = string
}

variable "writers" {
  description = "E-mail addresses of service accounts that make, change and drop tables."
  type        = list(string)
}

variable "readers" {
  description = "E-mail addresses of groups that read tables."
  type        = list(string)
}

variable "views_of" {
  description = "Ids of datasets whose views read this one, whoever asks them."
  type        = map(string)
  default     = {}
}

variable "table_days" {
  description = "Days after which a table is dropped that says nothing else; null for never."
  type        = number
  default     = null
}

variable "deletion_protection" {
  description = "Whether a destroy is refused while there are tables."
  type        = bool
}

resource "google_bigquery_dataset" "this" {
  #checkov:skip=CKV_GCP_81:Keys are Google's; customer-managed ones are an organisation's decision (docs/security.md).
  dataset_id                  = var.id
  location                    = var.location
  description                 = var.description
  default_table_expiration_ms = var.table_days == null ? null : var.table_days * 86400000
  # Two days where tables are short-lived anyway; else a week, in which a table can be read as it was.
  max_time_travel_hours      = var.table_days == null ? "168" : "48"
  delete_contents_on_destroy = !var.deletion_protection

  # BigQuery's own words for roles/bigquery.dataOwner, dataEditor, dataViewer: the API answers with these.
  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }
  dynamic "access" {
    for_each = var.writers
    content {
      role          = "WRITER"
      user_by_email = access.value
    }
  }
  dynamic "access" {
    for_each = var.readers
    content {
      role           = "READER"
      group_by_email = access.value
    }
  }
  dynamic "access" {
    for_each = var.views_of
    content {
      dataset {
        dataset {
          project_id = var.project_id
          dataset_id = access.value
        }
        target_types = ["VIEWS"]
      }
    }
  }
}

output "id" {
  description = "Id of the dataset, known when it is there."
  value       = google_bigquery_dataset.this.dataset_id
}
