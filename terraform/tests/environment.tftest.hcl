# What every environment keeps, whatever its values; run with each one's terraform.tfvars.

mock_provider "google" {}

run "the_environment" {
  command = apply

  assert {
    condition     = length([for key, role in output.pipeline.grants.buckets : key if !contains(["roles/storage.objectUser", "roles/storage.objectViewer"], role)]) == 0
    error_message = "A bucket grant is more than objectUser: ${jsonencode(output.pipeline.grants.buckets)}"
  }
  assert {
    condition = toset([for key in keys(output.pipeline.grants.buckets) : key if startswith(key, "extractor") || startswith(key, "loader") || startswith(key, "transformer")]) == toset([
      "extractor on landing", "loader on landing", "loader on archive", "transformer on landing", "transformer on report", "transformer on artifacts",
    ])
    error_message = "A service reaches another bucket, or lacks one: ${jsonencode(output.pipeline.grants.buckets)}"
  }
  assert {
    condition     = toset(output.pipeline.grants.topics) == toset(concat(["loader on batch_loaded", "loader on alerts", "transformer on alerts"], var.groups.operators == null ? [] : ["operators on batch_loaded"]))
    error_message = "Loader and transformer publish, operators tell of a batch that they release, nobody else: ${jsonencode(output.pipeline.grants.topics)}"
  }
  assert {
    condition     = toset(keys(output.pipeline.grants.services)) == toset(["push on loader", "push on transformer"])
    error_message = "Only push requests invoke the services: ${jsonencode(output.pipeline.grants.services)}"
  }
  assert {
    condition = length(setsubtract([for key in keys(output.pipeline.grants.project) : split(" ", key)[1]], [
      "roles/datastore.user", "roles/cloudsql.client", "roles/bigquery.jobUser",
      "roles/cloudscheduler.viewer", "roles/logging.viewer", "roles/monitoring.viewer", "roles/pubsub.viewer", "roles/run.viewer",
    ])) == 0
    error_message = "A role on the project that nobody needs: ${jsonencode(keys(output.pipeline.grants.project))}"
  }
  assert {
    condition     = alltrue([for key, condition in output.pipeline.grants.project : condition != "" if can(regex("datastore|cloudsql", key))])
    error_message = "State and source are granted by name, not project-wide: ${jsonencode(output.pipeline.grants.project)}"
  }
  assert {
    condition     = !contains(keys(output.pipeline.grants.project), "extractor roles/bigquery.jobUser")
    error_message = "The extractor has no business with BigQuery."
  }
  assert {
    condition     = output.pipeline.environment["loader"]["BATCH_LOADED_TOPIC"] == output.pipeline.environment["transformer"]["BATCH_LOADED_TOPIC"]
    error_message = "Loader and transformer disagree about their topic."
  }
  assert {
    condition     = alltrue([for service, values in output.pipeline.environment : alltrue([for name, value in values : !can(regex("\\$\\{", value)) && value != ""])])
    error_message = "A variable was not filled in: ${jsonencode(output.pipeline.environment)}"
  }
}

run "names_that_do_not_fit_are_refused" {
  command = plan
  variables {
    prefix    = "much-too-long-a-prefix"
    qualifier = "qualified"
    buckets   = { landing = "Upper", archive = "b-archive", report = "b-report", artifacts = "b-artifacts" }
  }
  expect_failures = [var.prefix, var.qualifier, var.buckets]
}

run "values_that_lose_data_are_refused" {
  command = plan
  variables {
    retention = { landing = 1 }
    loader    = { load_timeout = 590 }
    alerts    = { emails = [] }
  }
  expect_failures = [var.retention, var.loader, var.alerts]
}
