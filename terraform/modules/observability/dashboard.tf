# One dashboard: is it up to date, what moves, what is broken, what does it cost.

locals {
  charts = [
    { title = "Lag of the watermarks, by table (s)", filters = [local.distribution["table_lag"]], aligner = "ALIGN_PERCENTILE_99", by = ["metric.label.table"] },
    { title = "Oldest batch that waits, by table (s)", filters = [local.distribution["table_waiting"]], aligner = "ALIGN_PERCENTILE_99", by = ["metric.label.table"] },
    { title = "Batches loaded, by table", filters = local.counters["batches_loaded"], aligner = "ALIGN_DELTA", by = ["metric.label.table"] },
    { title = "Executions of jobs, by result", filters = ["metric.type=\"run.googleapis.com/job/completed_execution_count\" AND ${local.one_of_jobs}"], aligner = "ALIGN_DELTA", by = ["resource.label.job_name", "metric.label.result"] },
    { title = "Extractions that failed, by table", filters = local.counters["extraction_failed"], aligner = "ALIGN_DELTA", by = ["metric.label.table"] },
    { title = "Batches held, by table", filters = local.counters["batch_held"], aligner = "ALIGN_DELTA", by = ["metric.label.table"] },
    { title = "Attempts to load that failed, by table", filters = local.counters["batch_trouble"], aligner = "ALIGN_DELTA", by = ["metric.label.table"] },
    { title = "Dead letters", filters = local.above["dead-letters"].filters, aligner = "ALIGN_MAX", by = ["resource.label.subscription_id"] },
    { title = "Objects to failed/, by reason", filters = local.counters["objects_rejected"], aligner = "ALIGN_DELTA", by = ["metric.label.code"] },
    { title = "Tests that failed", filters = local.counters["tests_failed"], aligner = "ALIGN_DELTA", by = ["metric.label.test"] },
    { title = "Requests, by service and answer", filters = ["metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.labels.service_name=one_of(${join(",", [for name in values(var.services) : "\"${name}\""])})"], aligner = "ALIGN_DELTA", by = ["resource.label.service_name", "metric.label.response_code_class"] },
    { title = "BigQuery: bytes billed", filters = ["metric.type=\"bigquery.googleapis.com/query/scanned_bytes_billed\" AND resource.type=\"global\""], aligner = "ALIGN_DELTA", by = [] },
  ]
}

resource "google_monitoring_dashboard" "this" {
  dashboard_json = jsonencode({
    displayName = var.display_name
    mosaicLayout = {
      columns = 12
      tiles = [for place, chart in local.charts : {
        xPos   = place % 3 * 4
        yPos   = floor(place / 3) * 4
        width  = 4
        height = 4
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [for filter in chart.filters : {
              plotType = "LINE"
              timeSeriesQuery = { timeSeriesFilter = {
                filter = filter
                aggregation = {
                  alignmentPeriod    = "900s"
                  perSeriesAligner   = chart.aligner
                  crossSeriesReducer = chart.aligner == "ALIGN_PERCENTILE_99" || chart.aligner == "ALIGN_MAX" ? "REDUCE_MAX" : "REDUCE_SUM"
                  groupByFields      = chart.by
                }
              } }
            }]
          }
        }
      }]
    }
  })
}
