# The log's lines as metrics. A line's name is in jsonPayload.message, as services/core/logs.py writes it;
# tests/unit/test_terraform.py looks for every name and every field in the services' code.

locals {
  logs = join(" OR ", [
    "(resource.type=\"cloud_run_revision\" AND resource.labels.service_name=(${join(" OR ", [for name in values(var.services) : "\"${name}\""])}))",
    "(resource.type=\"cloud_run_job\" AND resource.labels.job_name=(${join(" OR ", [for name in values(var.jobs) : "\"${name}\""])}))",
  ])

  counted = {
    objects_rejected  = { message = "object.rejected", label = "code", description = "Objects moved to failed/, by reason." }
    tests_failed      = { message = "test.failed", label = "test", description = "dbt tests that failed." }
    tests_not_run     = { message = "test.not_run", label = "test", description = "dbt tests that could not be run." }
    extraction_failed = { message = "extraction.failed", label = "table", description = "Extractions that failed, by table." }
    batch_held        = { message = "batch.held", label = "table", description = "Batches that wait for a person, by table." }
    batch_trouble     = { message = "batch.trouble", label = "table", description = "Attempts to load a batch that failed and come again, by table." }
    bronze_failed     = { message = "bronze.failed", label = "table", description = "Merges into bronze that failed, by table." }
    downstream_failed = { message = "downstream.failed", label = null, description = "Builds of silver and gold that failed." }
    batches_loaded    = { message = "batch.loaded", label = "table", description = "Batches that were loaded, by table." }
    batches_expired   = { message = "batch.expired", label = "table", description = "Batches whose table was gone before they were merged." }
  }
  measured = {
    table_lag     = { message = "table.progress", field = "lag_seconds", unit = "s", description = "How far a table's watermark is behind now." }
    table_waiting = { message = "table.progress", field = "waiting_seconds", unit = "s", description = "How long a table's oldest batch that is not in bronze has been waiting." }
  }
  # An alert's threshold is a bound between two buckets, so that "above" is exact: powers of two around it.
  bounds = {
    table_lag     = { scale = var.alerts.lag_hours * 3600 / 64, count = 12 }
    table_waiting = { scale = var.alerts.waiting_minutes * 60 / 64, count = 14 }
  }
}

resource "google_logging_metric" "counted" {
  for_each = local.counted

  name        = "${var.metric_prefix}_${each.key}"
  description = each.value.description
  # A superseded part is a broken attempt's, cleared away by the attempt that succeeded: nothing is wrong.
  filter           = "(${local.logs}) AND jsonPayload.message=\"${each.value.message}\" AND NOT jsonPayload.code=\"superseded_part\""
  label_extractors = each.value.label == null ? null : { (each.value.label) = "EXTRACT(jsonPayload.${each.value.label})" }
  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = each.value.description
    dynamic "labels" {
      for_each = each.value.label == null ? [] : [each.value.label]
      content {
        key        = labels.value
        value_type = "STRING"
      }
    }
  }
}

resource "google_logging_metric" "measured" {
  for_each = local.measured

  name             = "${var.metric_prefix}_${each.key}"
  description      = each.value.description
  filter           = "(${local.logs}) AND jsonPayload.message=\"${each.value.message}\" AND jsonPayload.${each.value.field}>=0"
  value_extractor  = "EXTRACT(jsonPayload.${each.value.field})"
  label_extractors = { table = "EXTRACT(jsonPayload.table)" }
  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = each.value.unit
    display_name = each.value.description
    labels {
      key        = "table"
      value_type = "STRING"
    }
  }
  bucket_options {
    exponential_buckets {
      growth_factor      = 2
      scale              = local.bounds[each.key].scale
      num_finite_buckets = local.bounds[each.key].count
    }
  }
}
