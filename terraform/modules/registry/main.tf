# The images. Services run digests, so a tag that moves changes nothing that runs.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "name" {
  description = "Id of the repository."
  type        = string
}

variable "location" {
  description = "Region of the repository."
  type        = string
}

variable "retention" {
  description = "Days after which images are deleted; the ten newest of each are kept whatever their age."
  type        = object({ images = number, images_untagged = number })
}

resource "google_artifact_registry_repository" "this" {
  #checkov:skip=CKV_GCP_84:Keys are Google's: the images hold code that is in the repository anyway.
  location               = var.location
  repository_id          = var.name
  description            = "Images of the pipeline's services, tagged by commit."
  format                 = "DOCKER"
  cleanup_policy_dry_run = false

  cleanup_policies {
    id     = "keep-the-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }
  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "${var.retention.images_untagged * 86400}s"
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      tag_state  = "ANY"
      older_than = "${var.retention.images * 86400}s"
    }
  }
}

output "url" {
  description = "What the images' names begin with."
  value       = "${var.location}-docker.pkg.dev/${google_artifact_registry_repository.this.project}/${google_artifact_registry_repository.this.repository_id}"
}
