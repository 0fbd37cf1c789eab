# One policy per thing that a person must do something about.

locals {
  one_of_jobs        = "resource.type=\"cloud_run_job\" AND resource.labels.job_name=one_of(${join(",", [for name in values(var.jobs) : "\"${name}\""])})"
  one_of_subscribers = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=one_of(${join(",", [for name in var.dead_letter_subscriptions : "\"${name}\""])})"
  # A condition asks one type of resource: what a service or a job may log are two.
  counters     = { for name, metric in google_logging_metric.counted : name => [for type in ["cloud_run_revision", "cloud_run_job"] : "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"${type}\""] }
  distribution = { for name, metric in google_logging_metric.measured : name => "metric.type=\"logging.googleapis.com/user/${metric.name}\" AND resource.type=\"cloud_run_job\"" }
  hour         = "3600s"

  # What is above its threshold. The period is how much of the past is looked at in one piece.
  above = {
    dead-letters = {
      title   = "Dead letters", severity = "ERROR", period = "300s", aligner = "ALIGN_MAX", threshold = 0,
      filters = ["metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND ${local.one_of_subscribers}"]
      says    = "An event could not be handled in all its attempts. Its batch waits; the sweep tries again."
    }
    lag = {
      title   = "A watermark is behind", severity = "WARNING", period = local.hour, aligner = "ALIGN_PERCENTILE_99", threshold = var.alerts.lag_hours * 3600,
      filters = [local.distribution["table_lag"]]
      says    = "Nothing that changed in the source for ${var.alerts.lag_hours} hours is in bronze: the source rests, or the pipeline stands still."
    }
    waiting = {
      title   = "A batch waits", severity = "ERROR", period = local.hour, aligner = "ALIGN_PERCENTILE_99", threshold = var.alerts.waiting_minutes * 60,
      filters = [local.distribution["table_waiting"]]
      says    = "A batch has landed more than ${var.alerts.waiting_minutes} minutes ago and is not in bronze."
    }
    job-failed = {
      title   = "A job failed", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = ["metric.type=\"run.googleapis.com/job/completed_execution_count\" AND metric.labels.result=\"failed\" AND ${local.one_of_jobs}"]
      says    = "An execution of a Cloud Run job ended with an exit code that is not 0, in all its tries."
    }
    extraction-failed = {
      title   = "An extraction failed", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = local.counters["extraction_failed"]
      says    = "A table could not be extracted; the others went on. Its window is read again by the next run, which fails again until the cause is gone."
    }
    batch-held = {
      title   = "A batch is held", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = local.counters["batch_held"]
      says    = "A batch must not be merged, or can't be, until a person has looked at it: release or discard it."
    }
    batch-trouble = {
      title   = "A load is tried again and again", severity = "WARNING", period = local.hour, aligner = "ALIGN_DELTA", threshold = 2,
      filters = local.counters["batch_trouble"]
      says    = "More than two attempts within an hour to load batches of a table have failed. Pub/Sub goes on trying; after two hours the event is a dead letter."
    }
    objects-rejected = {
      title   = "Objects in failed/", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = local.counters["objects_rejected"]
      says    = "Something that landed can't be loaded as it is, and was moved to failed/ with the reason."
    }
    bronze-failed = {
      title   = "Bronze failed", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = local.counters["bronze_failed"]
      says    = "A table's merge failed. Its batches wait; other tables go on."
    }
    downstream-failed = {
      title   = "Silver or gold failed", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = local.counters["downstream_failed"]
      says    = "A model of silver or gold can't be built. Bronze and the watermarks go on."
    }
    tests-failed = {
      title   = "Tests failed", severity = "WARNING", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = concat(local.counters["tests_failed"], local.counters["tests_not_run"])
      says    = "The data is not as a test of the dbt project says it is, or a test could not be run: a batch's rows, or everything in the daily audit. credix audit tells which."
    }
    batches-expired = {
      title   = "Batches expired", severity = "ERROR", period = "300s", aligner = "ALIGN_DELTA", threshold = 0,
      filters = local.counters["batches_expired"]
      says    = "A batch's table was gone before it was merged: the transformer was away for days. Its window is read again."
    }
  }

  # What has not been seen for too long.
  absent = {
    no-extraction = {
      title  = "No extraction", severity = "ERROR", seconds = var.alerts.extraction_silent_h * 3600, aligner = "ALIGN_DELTA",
      filter = "metric.type=\"run.googleapis.com/job/completed_execution_count\" AND metric.labels.result=\"succeeded\" AND resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${var.jobs["extractor"]}\""
      says   = "No execution of the extractor has succeeded for ${var.alerts.extraction_silent_h} hours."
    }
    no-sweep = {
      title  = "No sweep", severity = "ERROR", seconds = 10800, aligner = "ALIGN_DELTA",
      filter = local.distribution["table_waiting"]
      says   = "No sweep has told how far the tables are for three hours. What gets stuck stays stuck, and the alerts on lag and waiting are blind."
    }
  }
}

resource "google_monitoring_alert_policy" "above" {
  for_each = local.above

  display_name          = "${var.display_name}: ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nWhat to do: docs/operations.md, \"${each.value.title}\"."
  }
  dynamic "conditions" {
    for_each = each.value.filters
    content {
      display_name = each.value.title
      condition_threshold {
        filter          = conditions.value
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.threshold
        duration        = "0s"
        aggregations {
          alignment_period   = each.value.period
          per_series_aligner = each.value.aligner
        }
      }
    }
  }
  alert_strategy {
    auto_close = "86400s"
  }
}

resource "google_monitoring_alert_policy" "absent" {
  for_each = local.absent

  display_name          = "${var.display_name}: ${each.value.title}"
  severity              = each.value.severity
  combiner              = "OR"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.says}\n\nWhat to do: docs/operations.md, \"${each.value.title}\"."
  }
  conditions {
    display_name = each.value.title
    condition_absent {
      filter   = each.value.filter
      duration = "${each.value.seconds}s"
      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }
  alert_strategy {
    auto_close = "86400s"
  }
}

output "policies" {
  description = "Titles of the alerts; docs/operations.md has a paragraph of the same title for each."
  value       = sort(concat([for policy in local.above : policy.title], [for policy in local.absent : policy.title]))
}
