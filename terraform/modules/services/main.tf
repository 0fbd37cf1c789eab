# The Cloud Run services and jobs. Terraform says everything about them but which image they run: that is the build's
# (cloudbuild.yaml), by digest. Until the first build they run Google's placeholder.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

locals {
  placeholder = "us-docker.pkg.dev/cloudrun/container"

  # environment.json is also read by tests/unit/test_terraform.py, which compares it with the settings classes.
  declared = jsondecode(templatefile("${path.module}/environment.json", var.facts))
  environment = { for service in ["extractor", "loader", "transformer", "credix"] : service => merge(concat(
    [for group in local.declared[service].groups : local.declared[group]],
    [{ for name, value in local.declared[service].environment : name => value if value != "" }],
    [lookup(var.tuning, service, {})],
  )...) }
  secrets = { for service in ["extractor", "loader", "transformer"] : service => {
    for name in local.declared[service].secrets : name => var.secrets[name] if contains(keys(var.secrets), name)
  } }
  unknown = flatten([for service, values in var.tuning : setsubtract(keys(values), local.declared[service].tuning)])

  # Concurrency is at most the 8 threads that the images serve with.
  services = { loader = var.loader, transformer = var.transformer }
  jobs = {
    extractor = merge(var.extractor, { of = "extractor", command = null, args = null })
    sweep     = merge(var.loader, { of = "loader", tasks = 1, retries = 0, timeout = 3600, command = ["python"], args = ["-m", "services.loader", "--sweep"] })
    reconcile = merge(var.transformer, { of = "transformer", tasks = 1, retries = 1, command = ["python"], args = ["-m", "services.transformer"] })
    # Not tried again at once: a test that cannot be run costs a scan each time, and the next day's audit comes anyway.
    audit   = merge(var.transformer, { of = "transformer", tasks = 1, retries = 0, command = ["python"], args = ["-m", "services.transformer", "--audit"] })
    observe = merge(var.transformer, { of = "transformer", tasks = 1, retries = 1, command = ["python"], args = ["-m", "services.transformer", "--observe"] })
  }
}

resource "google_cloud_run_v2_service" "this" {
  for_each = local.services

  name                = var.names.services[each.key]
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  deletion_protection = var.deletion_protection

  template {
    service_account                  = var.accounts[each.key]
    timeout                          = "${each.value.timeout}s"
    max_instance_request_concurrency = each.value.concurrency
    scaling {
      min_instance_count = 0
      max_instance_count = each.value.max_instances
    }
    containers {
      image = "${local.placeholder}/hello"
      resources {
        limits            = { cpu = each.value.cpu, memory = each.value.memory }
        cpu_idle          = true
        startup_cpu_boost = true
      }
      dynamic "env" {
        for_each = local.environment[each.key]
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secrets[each.key]
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [client, client_version, template[0].containers[0].image, template[0].revision]
    precondition {
      condition     = length(local.unknown) == 0
      error_message = "tuning: ${join(", ", local.unknown)}: no setting of that service that environment.json leaves at its default."
    }
  }
}

resource "google_cloud_run_v2_job" "this" {
  for_each = local.jobs

  name                = var.names.jobs[each.key]
  location            = var.region
  deletion_protection = var.deletion_protection

  template {
    task_count  = each.value.tasks
    parallelism = each.value.tasks
    template {
      service_account = var.accounts[each.value.of]
      timeout         = "${each.value.timeout}s"
      max_retries     = each.value.retries
      containers {
        image   = "${local.placeholder}/job"
        command = each.value.command
        args    = each.value.args
        resources {
          limits = { cpu = each.value.cpu, memory = each.value.memory }
        }
        dynamic "env" {
          for_each = local.environment[each.value.of]
          content {
            name  = env.key
            value = env.value
          }
        }
        dynamic "env" {
          for_each = local.secrets[each.value.of]
          content {
            name = env.key
            value_source {
              secret_key_ref {
                secret  = env.value
                version = "latest"
              }
            }
          }
        }
        dynamic "volume_mounts" {
          for_each = each.key == "extractor" && var.cloud_sql_instance != "" ? [1] : []
          content {
            name       = "cloudsql"
            mount_path = "/cloudsql"
          }
        }
      }
      dynamic "volumes" {
        for_each = each.key == "extractor" && var.cloud_sql_instance != "" ? [1] : []
        content {
          name = "cloudsql"
          cloud_sql_instance {
            instances = [var.cloud_sql_instance]
          }
        }
      }
      dynamic "vpc_access" {
        for_each = each.key == "extractor" && var.network != null ? [var.network] : []
        content {
          egress = "PRIVATE_RANGES_ONLY"
          network_interfaces {
            network    = vpc_access.value.network
            subnetwork = vpc_access.value.subnetwork
          }
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [client, client_version, template[0].template[0].containers[0].image]
  }
}

output "services" {
  description = "Names of the services, by purpose."
  value       = { for purpose, service in google_cloud_run_v2_service.this : purpose => service.name }
}

output "addresses" {
  description = "Addresses of the services, by purpose."
  value       = { for purpose, service in google_cloud_run_v2_service.this : purpose => service.uri }
}

output "jobs" {
  description = "Names of the jobs, by purpose."
  value       = { for purpose, job in google_cloud_run_v2_job.this : purpose => job.name }
}

output "environment" {
  description = "Variables of each service, and of the credix command (credix); no secret."
  value       = local.environment
}
