# The pipeline of one environment: the modules, wired. Names first, then accounts, then things, then who may do what.

terraform {
  required_version = ">= 1.9, < 2.0"
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

locals {
  apis = concat([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
    ],
    var.delivery == null ? [] : ["cloudbuild.googleapis.com", "iamcredentials.googleapis.com", "ondemandscanning.googleapis.com", "sts.googleapis.com"],
    var.source_database.cloud_sql_instance == "" ? [] : ["sqladmin.googleapis.com"],
    var.network == null ? [] : ["compute.googleapis.com"],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
    var.daily_query_quota_tib == null ? [] : ["cloudquotas.googleapis.com"],
  )
  display_name = join(" ", compact([var.prefix, var.environment, var.qualifier]))

  # What environment.json refers to.
  facts = {
    project_id         = var.project_id
    landing_bucket     = var.buckets.landing
    archive_bucket     = var.buckets.archive
    report_bucket      = var.buckets.report
    artifact_bucket    = var.buckets.artifacts
    object_prefix      = var.object_prefix
    state_namespace    = var.state.namespace
    firestore_database = var.state.database
    late_after         = tostring(var.alerts.lag_hours * 3600)
    bigquery_location  = var.bigquery_location
    dataset_temp       = module.names.datasets["temp"]
    dataset_bronze     = module.names.datasets["bronze"]
    dataset_silver     = module.names.datasets["silver"]
    dataset_gold       = module.names.datasets["gold"]
    dataset_elementary = module.names.datasets["elementary"]
    batch_loaded_topic = module.names.topics["batch_loaded"]
    alert_topic        = module.names.topics["alerts"]
    temp_table_days    = var.retention.temp_tables
    load_timeout       = var.loader.load_timeout
    usd_per_tib        = tostring(var.transformer.usd_per_tib)
    max_bytes_billed   = var.transformer.max_bytes_billed == null ? "" : tostring(var.transformer.max_bytes_billed)
    postgres_host      = var.source_database.cloud_sql_instance == "" ? var.source_database.host : "/cloudsql/${var.source_database.cloud_sql_instance}"
    postgres_port      = var.source_database.port
    postgres_db        = var.source_database.name
    postgres_user      = var.source_database.user
    # The socket is the proxy's, which encrypts; libpq can't on a socket.
    postgres_sslmode          = var.source_database.cloud_sql_instance == "" ? var.source_database.sslmode : "disable"
    dead_letter_subscriptions = join(",", [for topic in ["landing", "batch_loaded"] : "${module.names.topics[topic]}-dead-letter"])
  }
}

resource "google_project_service" "api" {
  for_each = toset(local.apis)

  service            = each.value
  disable_on_destroy = false
}

module "names" {
  source = "../names"

  prefix    = var.prefix
  qualifier = var.qualifier
  datasets  = var.datasets
}

module "network" {
  source = "../network"
  count  = try(var.network.cidr, null) == null ? 0 : 1

  name       = module.names.network
  region     = var.region
  cidr       = var.network.cidr
  depends_on = [google_project_service.api]
}

module "identities" {
  source = "../identities"

  project_id         = var.project_id
  accounts           = module.names.accounts
  buckets            = module.storage.buckets
  topics             = module.messaging.topics
  subscriptions      = merge(module.messaging.dead_letter_subscriptions, { alerts = module.messaging.alert_subscription })
  secrets            = module.secrets.ids
  services           = module.services.services
  jobs               = module.services.jobs
  region             = var.region
  firestore_database = module.state.database
  cloud_sql_instance = var.source_database.cloud_sql_instance
  groups             = var.groups
  depends_on         = [google_project_service.api]
}

module "storage" {
  source = "../storage"

  location      = var.region
  names         = var.buckets
  object_prefix = var.object_prefix
  retention     = var.retention
  report_public = var.report_public
  force_destroy = !var.deletion_protection
  depends_on    = [google_project_service.api]
}

module "warehouse" {
  source = "../warehouse"

  project_id          = var.project_id
  datasets            = module.names.datasets
  location            = var.bigquery_location
  temp_table_days     = var.retention.temp_tables
  loader              = module.identities.emails["loader"]
  transformer         = module.identities.emails["transformer"]
  operators           = var.groups.operators
  analysts            = var.groups.analysts
  deletion_protection = var.deletion_protection
  depends_on          = [google_project_service.api]
}

module "messaging" {
  source = "../messaging"

  project_id = var.project_id
  topics     = module.names.topics
  push = {
    landing      = { name = module.names.services["loader"], endpoint = module.services.addresses["loader"] }
    batch_loaded = { name = module.names.services["transformer"], endpoint = module.services.addresses["transformer"] }
  }
  push_account     = module.identities.emails["push"]
  landing_bucket   = module.storage.buckets["landing"]
  landing_prefix   = "${var.object_prefix}/landing"
  dead_letter_days = var.retention.dead_letters
  depends_on       = [google_project_service.api]
}

module "state" {
  source = "../state"

  database               = var.state.database
  location               = coalesce(var.state.location, var.region)
  namespace              = var.state.namespace
  point_in_time_recovery = var.state.point_in_time_recovery
  deletion_protection    = var.deletion_protection
  depends_on             = [google_project_service.api]
}

module "secrets" {
  source = "../secrets"

  names               = module.names.secrets
  location            = var.region
  deletion_protection = var.deletion_protection
  depends_on          = [google_project_service.api]
}

module "registry" {
  source = "../registry"

  name       = module.names.repository
  location   = var.region
  retention  = var.retention
  depends_on = [google_project_service.api]
}

module "services" {
  source = "../services"

  region             = var.region
  names              = { services = module.names.services, jobs = module.names.jobs }
  accounts           = module.identities.emails
  facts              = local.facts
  secrets            = { for variable, id in module.identities.readable_secrets : variable => id if contains(var.secrets_in_use, variable) }
  tuning             = var.tuning
  extractor          = var.extractor
  loader             = var.loader
  transformer        = var.transformer
  cloud_sql_instance = var.source_database.cloud_sql_instance
  network = var.network == null ? null : {
    network    = var.network.cidr == null ? var.network.network : module.network[0].network
    subnetwork = var.network.cidr == null ? var.network.subnetwork : module.network[0].subnetwork
  }
  deletion_protection = var.deletion_protection
  depends_on          = [google_project_service.api]
}

module "schedule" {
  source = "../schedule"

  project_id = var.project_id
  region     = var.region
  account    = module.identities.emails["scheduler"]
  time_zone  = var.schedules.time_zone
  paused     = var.schedules.paused
  jobs = {
    extractor = { name = module.services.jobs["extractor"], cron = var.schedules.extract, description = "Reads what changed in the source." }
    sweep     = { name = module.services.jobs["sweep"], cron = var.schedules.sweep, description = "Finishes what got stuck, and tells how far each table is." }
    reconcile = { name = module.services.jobs["reconcile"], cron = var.schedules.reconcile, description = "Merges and builds what no event has brought about." }
    audit     = { name = module.services.jobs["audit"], cron = var.schedules.audit, description = "Runs all tests on everything, in one statement." }
    observe   = { name = module.services.jobs["observe"], cron = var.schedules.observe, description = "Elementary's tests, report and alerts." }
  }
  depends_on = [google_project_service.api]
}

module "observability" {
  source = "../observability"

  metric_prefix             = module.names.metrics
  display_name              = local.display_name
  alerts                    = var.alerts
  services                  = module.services.services
  jobs                      = module.services.jobs
  dead_letter_subscriptions = values(module.messaging.dead_letter_subscriptions)
  budget                    = var.budget
  daily_query_quota_tib     = var.daily_query_quota_tib
  depends_on                = [google_project_service.api]
}

module "delivery" {
  source = "../delivery"
  count  = var.delivery == null ? 0 : 1

  project_id        = var.project_id
  region            = var.region
  accounts          = { build = module.names.accounts["build"], plan = module.names.accounts["plan"] }
  pool              = module.names.pool
  github_repository = var.delivery.github_repository
  state_bucket      = var.delivery.state_bucket
  repository        = module.names.repository
  runs_as           = { for purpose in ["extractor", "loader", "transformer"] : purpose => module.identities.emails[purpose] }
  services          = module.services.services
  jobs              = module.services.jobs
  depends_on        = [google_project_service.api, module.registry]
}
