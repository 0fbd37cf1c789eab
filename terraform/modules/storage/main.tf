# Four buckets: landing (with failed), archive, report, dbt artifacts. Access by IAM alone, and never public but the
# report, when the environment asks for it. Who may do what is in modules/identities.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "location" {
  description = "Region of the buckets."
  type        = string
}

variable "names" {
  description = "The four names."
  type        = object({ landing = string, archive = string, report = string, artifacts = string })
}

variable "object_prefix" {
  description = "What the objects' names begin with."
  type        = string
}

variable "retention" {
  description = "Days after which objects are deleted, or become Nearline (archive_coldly, 0 for never); soft_delete 0 for none."
  type = object({
    landing     = number, failed = number, archive = number, archive_coldly = number, report = number, artifacts = number,
    soft_delete = number
  })
}

variable "report_public" {
  description = "Whether everybody may read the report bucket."
  type        = bool
  default     = false
}

variable "force_destroy" {
  description = "Whether a bucket that is destroyed takes its objects with it."
  type        = bool
  default     = false
}

locals {
  buckets = {
    landing = {
      # What is there after so long was neither loaded nor rejected: alerts have said so for weeks.
      rules = [
        { action = "Delete", age = var.retention.landing, prefix = "${var.object_prefix}/landing/" },
        { action = "Delete", age = var.retention.failed, prefix = "${var.object_prefix}/failed/" },
        # A table's newest stay for as long as nothing changes; without them, what is read again lands once more.
        { action = "Delete", age = var.retention.landing, prefix = "${var.object_prefix}/fingerprints/" },
      ]
    }
    archive = {
      rules = concat(
        [{ action = "Delete", age = var.retention.archive, prefix = null }],
        var.retention.archive_coldly == 0 ? [] : [{ action = "SetStorageClass", age = var.retention.archive_coldly, prefix = null }],
      )
    }
    report    = { rules = [{ action = "Delete", age = var.retention.report, prefix = null }] }
    artifacts = { rules = [{ action = "Delete", age = var.retention.artifacts, prefix = null }] }
  }

  # Of the archive, which is the only copy of what was loaded; and of the report, whose pages are written over.
  versioned = ["archive", "report"]
}

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_62:Access logs would be a fifth bucket; data access audit logs say the same, where an organisation wants them (docs/security.md).
  #checkov:skip=CKV_GCP_78:Only archive and report are versioned; objects of landing are written once and moved away, and soft delete keeps what was deleted.
  #checkov:skip=CKV_GCP_114:The report bucket is public when report_public asks for it; the other three never are.
  for_each = local.buckets

  name                        = var.names[each.key]
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = each.key == "report" && var.report_public ? "inherited" : "enforced"
  force_destroy               = var.force_destroy

  soft_delete_policy {
    retention_duration_seconds = var.retention.soft_delete * 86400
  }

  versioning {
    enabled = contains(local.versioned, each.key)
  }

  dynamic "lifecycle_rule" {
    for_each = each.value.rules
    content {
      action {
        type          = lifecycle_rule.value.action
        storage_class = lifecycle_rule.value.action == "SetStorageClass" ? "NEARLINE" : null
      }
      condition {
        age            = lifecycle_rule.value.age
        matches_prefix = lifecycle_rule.value.prefix == null ? null : [lifecycle_rule.value.prefix]
        with_state     = "LIVE"
      }
    }
  }

  # Older versions: a week longer than what can be brought back anyway.
  dynamic "lifecycle_rule" {
    for_each = contains(local.versioned, each.key) ? [1] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = 7
        with_state                 = "ARCHIVED"
      }
    }
  }

  # Uploads that a dead process has left half done.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  dynamic "website" {
    for_each = each.key == "report" ? [1] : []
    content {
      main_page_suffix = "index.html"
    }
  }
}

# Objects by their name, and no listing: that is all a website needs.
resource "google_storage_bucket_iam_member" "public_report" {
  #checkov:skip=CKV_GCP_28:Only when report_public asks for it; a test holds that.
  count = var.report_public ? 1 : 0

  bucket = google_storage_bucket.this["report"].name
  role   = "roles/storage.legacyObjectReader"
  member = "allUsers"
}

output "buckets" {
  description = "The buckets' names, by purpose."
  value       = { for purpose, bucket in google_storage_bucket.this : purpose => bucket.name }
}
