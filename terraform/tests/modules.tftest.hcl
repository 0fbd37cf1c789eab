# What the modules promise, each by itself.

mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "storage-agent@gs-project-accounts.iam.gserviceaccount.com" }
  }
  mock_resource "google_pubsub_topic" {
    defaults = { id = "projects/p/topics/mocked" }
  }
}

# ---- names

run "names_as_on_the_local_stack" {
  module { source = "../../modules/names" }
  variables {
    prefix    = "credix"
    qualifier = ""
    datasets  = "business_case"
  }
  assert {
    condition     = output.topics == { landing = "credix-landing", batch_loaded = "credix-batch-loaded", alerts = "credix-alerts" }
    error_message = jsonencode(output.topics)
  }
  assert {
    condition     = output.services == { loader = "credix-loader", transformer = "credix-transformer" }
    error_message = jsonencode(output.services)
  }
  assert {
    condition     = output.datasets["elementary__tests"] == "business_case_elementary__tests" && output.datasets["gold"] == "business_case_gold"
    error_message = jsonencode(output.datasets)
  }
}

run "the_longest_names_fit" {
  module { source = "../../modules/names" }
  variables {
    prefix    = "a23456789012"
    qualifier = "12345"
    datasets  = "business_case"
  }
  assert {
    condition     = max([for name in values(output.accounts) : length(name)]...) == 30
    error_message = "Service accounts have at most 30 characters: ${jsonencode(output.accounts)}"
  }
  assert {
    condition     = alltrue([for name in values(output.services) : length(name) <= 49]) && alltrue([for name in values(output.jobs) : length(name) <= 63]) && length(output.pool) <= 32
    error_message = "Too long: ${jsonencode([output.services, output.jobs, output.pool])}"
  }
  assert {
    condition     = output.datasets["elementary__tests"] == "${output.datasets["elementary"]}__tests"
    error_message = "Elementary's tests write to <its dataset>__tests."
  }
}

run "two_environments_of_a_project_share_no_name" {
  module { source = "../../modules/names" }
  variables {
    prefix    = "credix"
    qualifier = "dev"
    datasets  = "business_case"
  }
  assert {
    condition = length(setintersection(
      concat(values(output.accounts), values(output.jobs), values(output.topics), values(output.datasets), values(output.secrets), [output.metrics]),
      concat(values(run.names_as_on_the_local_stack.accounts), values(run.names_as_on_the_local_stack.jobs), values(run.names_as_on_the_local_stack.topics),
      values(run.names_as_on_the_local_stack.datasets), values(run.names_as_on_the_local_stack.secrets), [run.names_as_on_the_local_stack.metrics])
    )) == 0
    error_message = "A name lacks the qualifier."
  }
}

run "a_name_that_does_not_fit_is_refused" {
  command = plan
  module { source = "../../modules/names" }
  variables {
    prefix    = "a234567890123"
    qualifier = "123456"
  }
  expect_failures = [var.prefix, var.qualifier]
}

# ---- storage

run "buckets" {
  module { source = "../../modules/storage" }
  variables {
    location      = "southamerica-east1"
    names         = { landing = "l-bucket", archive = "a-bucket", report = "r-bucket", artifacts = "d-bucket" }
    object_prefix = "business_case"
    retention     = { landing = 90, failed = 91, archive = 365, archive_coldly = 30, report = 100, artifacts = 90, soft_delete = 7 }
    report_public = false
  }
  assert {
    condition     = length(google_storage_bucket_iam_member.public_report) == 0
    error_message = "Nobody asked for a public report."
  }
  assert {
    condition     = alltrue([for bucket in google_storage_bucket.this : bucket.uniform_bucket_level_access && bucket.public_access_prevention == "enforced"])
    error_message = "Access is by IAM alone, and never public."
  }
  assert {
    condition     = alltrue([for bucket in google_storage_bucket.this : bucket.soft_delete_policy[0].retention_duration_seconds == 604800 && !bucket.force_destroy])
    error_message = "What is deleted can be brought back for a week, and a filled bucket is not destroyed."
  }
  assert {
    condition = toset([for rule in google_storage_bucket.this["landing"].lifecycle_rule : "${one(rule.condition).matches_prefix[0]} ${one(rule.condition).age}" if one(rule.action).type == "Delete"]) == toset([
      "business_case/landing/ 90", "business_case/failed/ 91", "business_case/fingerprints/ 90",
    ])
    error_message = "landing/ and failed/ have each its own retention; fingerprints have that of landing/."
  }
  assert {
    condition     = contains([for rule in google_storage_bucket.this["archive"].lifecycle_rule : one(rule.condition).age if one(rule.action).type == "Delete"], 365)
    error_message = "The archive is kept for a year."
  }
}

run "only_the_report_becomes_public_when_asked" {
  module { source = "../../modules/storage" }
  variables {
    location      = "southamerica-east1"
    names         = { landing = "l-bucket", archive = "a-bucket", report = "r-bucket", artifacts = "d-bucket" }
    object_prefix = "business_case"
    retention     = { landing = 90, failed = 90, archive = 365, archive_coldly = 0, report = 100, artifacts = 90, soft_delete = 0 }
    report_public = true
  }
  assert {
    condition     = [for bucket in google_storage_bucket.this : bucket.name if bucket.public_access_prevention != "enforced"] == ["r-bucket"]
    error_message = "Another bucket could become public."
  }
  assert {
    condition     = google_storage_bucket_iam_member.public_report[0].bucket == "r-bucket" && google_storage_bucket_iam_member.public_report[0].role == "roles/storage.legacyObjectReader"
    error_message = "Everybody may get an object of the report bucket, and list none."
  }
}

# ---- messaging

run "messaging" {
  module { source = "../../modules/messaging" }
  variables {
    project_id = "p"
    topics     = { landing = "credix-landing", batch_loaded = "credix-batch-loaded", alerts = "credix-alerts" }
    push = {
      landing      = { name = "credix-loader", endpoint = "https://loader.example" }
      batch_loaded = { name = "credix-transformer", endpoint = "https://transformer.example" }
    }
    push_account     = "push@p.iam.gserviceaccount.com"
    landing_bucket   = "l-bucket"
    landing_prefix   = "business_case/landing"
    dead_letter_days = 14
  }
  assert {
    condition = alltrue([for key, subscription in google_pubsub_subscription.push :
      subscription.push_config[0].oidc_token[0].service_account_email == "push@p.iam.gserviceaccount.com"
      && subscription.push_config[0].oidc_token[0].audience == var.push[key].endpoint
    ])
    error_message = "Every push is signed, for its own service."
  }
  assert {
    condition = alltrue([for key, subscription in google_pubsub_subscription.push :
      subscription.ack_deadline_seconds == 600
      && subscription.dead_letter_policy[0].max_delivery_attempts == 20
      && subscription.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letter[key].id
      && subscription.retry_policy[0].minimum_backoff == "10s"
    ])
    error_message = "Every push has ten minutes, a pause before the next, and an end as a dead letter."
  }
  assert {
    condition     = alltrue([for subscription in concat(values(google_pubsub_subscription.push), values(google_pubsub_subscription.dead_letter), [google_pubsub_subscription.alerts]) : subscription.expiration_policy[0].ttl == ""])
    error_message = "A subscription that nobody uses for a month stays."
  }
  assert {
    condition     = { for key, subscription in google_pubsub_subscription.dead_letter : key => subscription.name } == { landing = "credix-landing-dead-letter", batch_loaded = "credix-batch-loaded-dead-letter" }
    error_message = "Dead letters are where `credix status` looks."
  }
  assert {
    condition = (
      alltrue([for grant in google_pubsub_topic_iam_member.forwards_dead_letters : grant.role == "roles/pubsub.publisher" && grant.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
      && alltrue([for grant in google_pubsub_subscription_iam_member.forwards_dead_letters : grant.role == "roles/pubsub.subscriber" && grant.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
      && length(google_pubsub_subscription_iam_member.forwards_dead_letters) == 2
    )
    error_message = "Without both grants Pub/Sub forwards no dead letter, and says nothing."
  }
  assert {
    condition     = google_storage_notification.landing.object_name_prefix == "business_case/landing/" && google_storage_notification.landing.event_types == toset(["OBJECT_FINALIZE"])
    error_message = "Only what lands is told: not what is moved to failed/."
  }
}

# ---- warehouse

run "warehouse" {
  module { source = "../../modules/warehouse" }
  variables {
    project_id = "p"
    datasets = {
      temp = "b_temp", bronze = "b_bronze", silver = "b_silver", gold = "b_gold", elementary = "b_elementary", elementary__tests = "b_elementary__tests"
    }
    location            = "southamerica-east1"
    temp_table_days     = 7
    loader              = "loader@p.iam.gserviceaccount.com"
    transformer         = "transformer@p.iam.gserviceaccount.com"
    operators           = "operators@example.com"
    analysts            = "analysts@example.com"
    deletion_protection = true
  }
  assert {
    condition     = toset(values(output.datasets)) == toset(["b_temp", "b_bronze", "b_silver", "b_gold", "b_elementary", "b_elementary__tests"])
    error_message = jsonencode(output.datasets)
  }
  assert {
    condition     = toset([for table in google_bigquery_table.stable : table.table_id]) == toset(keys(jsondecode(file("../../modules/warehouse/declared_tables.json"))))
    error_message = "Every declared table has its stable one."
  }
}

run "the_temp_dataset_forgets" {
  module { source = "../../modules/warehouse/dataset" }
  variables {
    project_id          = "p"
    id                  = "b_temp"
    location            = "southamerica-east1"
    description         = "d"
    writers             = ["loader@p.iam.gserviceaccount.com"]
    readers             = []
    table_days          = 7
    deletion_protection = true
  }
  assert {
    condition     = google_bigquery_dataset.this.default_table_expiration_ms == 604800000 && !google_bigquery_dataset.this.delete_contents_on_destroy
    error_message = "A batch's table is dropped after seven days; a destroy is refused while there are tables."
  }
}

run "a_dataset_has_exactly_its_readers_and_writers" {
  module { source = "../../modules/warehouse/dataset" }
  variables {
    project_id          = "p"
    id                  = "b_bronze"
    location            = "southamerica-east1"
    description         = "d"
    writers             = ["transformer@p.iam.gserviceaccount.com"]
    readers             = ["operators@example.com"]
    views_of            = { gold = "b_gold" }
    deletion_protection = true
  }
  assert {
    condition     = google_bigquery_dataset.this.default_table_expiration_ms == null
    error_message = "Nothing but the temp dataset forgets."
  }
  assert {
    condition = toset([for access in google_bigquery_dataset.this.access : join(" ", compact([access.role, access.user_by_email, access.group_by_email, access.special_group, try(access.dataset[0].dataset[0].dataset_id, null)]))]) == toset([
      "OWNER projectOwners", "WRITER transformer@p.iam.gserviceaccount.com", "READER operators@example.com", "b_gold",
    ])
    error_message = jsonencode(google_bigquery_dataset.this.access)
  }
}

# ---- services

run "services" {
  module { source = "../../modules/services" }
  variables {
    region = "southamerica-east1"
    names = {
      services = { loader = "credix-loader", transformer = "credix-transformer" }
      jobs     = { extractor = "credix-extractor", sweep = "credix-sweep", reconcile = "credix-reconcile", audit = "credix-audit", observe = "credix-observe" }
    }
    accounts = { extractor = "e@p.iam.gserviceaccount.com", loader = "l@p.iam.gserviceaccount.com", transformer = "t@p.iam.gserviceaccount.com" }
    facts = {
      project_id         = "p", landing_bucket = "l", archive_bucket = "a", report_bucket = "r", artifact_bucket = "d", object_prefix = "o", state_namespace = "n",
      firestore_database = "(default)", late_after = "93600", bigquery_location = "US", dataset_temp = "t", dataset_bronze = "b", dataset_silver = "s", dataset_gold = "g",
      dataset_elementary = "e", batch_loaded_topic = "bl", alert_topic = "al", temp_table_days = "7", load_timeout = "540", max_bytes_billed = "", usd_per_tib = "6.25",
      postgres_host      = "/cloudsql/p:r:i", postgres_port = "5432", postgres_db = "d", postgres_user = "u", postgres_sslmode = "disable", dead_letter_subscriptions = "x,y",
    }
    secrets             = { POSTGRES_PASSWORD = "credix-postgres-password" }
    tuning              = { extractor = { EXTRACT_READERS = "4" } }
    extractor           = { cpu = "1", memory = "2Gi", tasks = 3, retries = 2, timeout = 3600 }
    loader              = { cpu = "1", memory = "1Gi", concurrency = 8, max_instances = 5, timeout = 1200 }
    transformer         = { cpu = "1", memory = "2Gi", concurrency = 8, max_instances = 2, timeout = 3600 }
    cloud_sql_instance  = "p:r:i"
    network             = { network = "n", subnetwork = "s" }
    deletion_protection = true
  }
  assert {
    condition     = alltrue([for service in google_cloud_run_v2_service.this : service.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && service.invoker_iam_disabled != true])
    error_message = "The services take no request from outside, and none without a right."
  }
  assert {
    condition     = { for key, service in google_cloud_run_v2_service.this : key => service.template[0].service_account } == { loader = "l@p.iam.gserviceaccount.com", transformer = "t@p.iam.gserviceaccount.com" }
    error_message = "A service runs as somebody else."
  }
  assert {
    condition     = { for key, job in google_cloud_run_v2_job.this : key => job.template[0].template[0].service_account } == { extractor = "e@p.iam.gserviceaccount.com", sweep = "l@p.iam.gserviceaccount.com", reconcile = "t@p.iam.gserviceaccount.com", audit = "t@p.iam.gserviceaccount.com", observe = "t@p.iam.gserviceaccount.com" }
    error_message = "A job runs as somebody else."
  }
  assert {
    condition     = google_cloud_run_v2_service.this["loader"].template[0].timeout == "1200s" && google_cloud_run_v2_service.this["transformer"].template[0].timeout == "3600s"
    error_message = "Requests may take as long as what they do."
  }
  assert {
    condition     = google_cloud_run_v2_job.this["extractor"].template[0].task_count == 3 && google_cloud_run_v2_job.this["extractor"].template[0].template[0].max_retries == 2
    error_message = "Tasks and their tries."
  }
  assert {
    condition     = [for job in google_cloud_run_v2_job.this : job.name if length(job.template[0].template[0].volumes) > 0 || length(job.template[0].template[0].vpc_access) > 0] == ["credix-extractor"]
    error_message = "Only the extractor gets to the source."
  }
  assert {
    condition = [for env in google_cloud_run_v2_job.this["extractor"].template[0].template[0].containers[0].env : env.value_source[0].secret_key_ref[0].secret if length(env.value_source) > 0] == ["credix-postgres-password"] && alltrue([
      for env in google_cloud_run_v2_job.this["extractor"].template[0].template[0].containers[0].env : env.value == null || env.value == "" if env.name == "POSTGRES_PASSWORD"
    ])
    error_message = "The password comes from its secret, and a secret without a value is not referred to."
  }
  assert {
    condition     = output.environment["extractor"]["EXTRACT_READERS"] == "4" && !contains(keys(output.environment["transformer"]), "BIGQUERY_MAX_BYTES_BILLED")
    error_message = "A tuned setting is given, an empty one is not."
  }
}

run "a_setting_that_is_not_there_is_refused" {
  command = plan
  module { source = "../../modules/services" }
  variables {
    region              = run.services.environment["loader"]["BIGQUERY_LOCATION"]
    names               = { services = { loader = "l", transformer = "t" }, jobs = { extractor = "e", sweep = "s", reconcile = "r", audit = "a", observe = "o" } }
    accounts            = { extractor = "e", loader = "l", transformer = "t" }
    facts               = { for name in ["project_id", "landing_bucket", "archive_bucket", "report_bucket", "artifact_bucket", "object_prefix", "state_namespace", "firestore_database", "late_after", "bigquery_location", "dataset_temp", "dataset_bronze", "dataset_silver", "dataset_gold", "dataset_elementary", "batch_loaded_topic", "alert_topic", "temp_table_days", "load_timeout", "max_bytes_billed", "usd_per_tib", "postgres_host", "postgres_port", "postgres_db", "postgres_user", "postgres_sslmode", "dead_letter_subscriptions"] : name => "x" }
    secrets             = {}
    tuning              = { loader = { LANDING_BUCKET = "elsewhere" } }
    extractor           = { cpu = "1", memory = "2Gi", tasks = 1, retries = 2, timeout = 3600 }
    loader              = { cpu = "1", memory = "1Gi", concurrency = 8, max_instances = 5, timeout = 1200 }
    transformer         = { cpu = "1", memory = "2Gi", concurrency = 8, max_instances = 2, timeout = 3600 }
    deletion_protection = false
  }
  expect_failures = [google_cloud_run_v2_service.this]
}

# ---- schedule, state, secrets

run "schedules" {
  module { source = "../../modules/schedule" }
  variables {
    project_id = "p"
    region     = "southamerica-east1"
    account    = "scheduler@p.iam.gserviceaccount.com"
    time_zone  = "Etc/UTC"
    paused     = false
    jobs       = { sweep = { name = "credix-sweep", cron = "7,22,37,52 * * * *", description = "d" } }
  }
  assert {
    condition = alltrue([for job in google_cloud_scheduler_job.this :
      job.http_target[0].oauth_token[0].service_account_email == "scheduler@p.iam.gserviceaccount.com" && endswith(job.http_target[0].uri, "/jobs/credix-sweep:run")
    ])
    error_message = "Jobs are started as the scheduler's account."
  }
}

run "state" {
  module { source = "../../modules/state" }
  variables {
    database               = "(default)"
    location               = "southamerica-east1"
    namespace              = "credix"
    point_in_time_recovery = true
    deletion_protection    = true
  }
  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED" && google_firestore_database.this.deletion_policy == "PREVENT"
    error_message = "Nobody deletes the state by accident."
  }
  assert {
    condition     = google_firestore_field.run_forget_after.collection == "credix-runs" && google_firestore_field.run_forget_after.field == "forget_after" && length(google_firestore_field.run_forget_after.ttl_config) == 1
    error_message = "The history of runs forgets."
  }
}

# ---- observability

run "observability" {
  module { source = "../../modules/observability" }
  variables {
    metric_prefix             = "credix"
    display_name              = "credix test"
    alerts                    = { emails = ["a@example.com", "b@example.com"], lag_hours = 36, waiting_minutes = 60, extraction_silent_h = 3 }
    services                  = { loader = "credix-loader", transformer = "credix-transformer" }
    jobs                      = { extractor = "credix-extractor", sweep = "credix-sweep", reconcile = "credix-reconcile", audit = "credix-audit", observe = "credix-observe" }
    dead_letter_subscriptions = ["credix-landing-dead-letter"]
    budget                    = { billing_account = "012345-6789AB-CDEF01", amount = 50, currency = "USD" }
    daily_query_quota_tib     = 0.5
  }
  assert {
    condition     = google_cloud_quotas_quota_preference.queries[0].quota_config[0].preferred_value == "524288"
    error_message = "The quota is in MiB."
  }
  assert {
    condition     = alltrue([for policy in concat(values(google_monitoring_alert_policy.above), values(google_monitoring_alert_policy.absent)) : length(policy.notification_channels) == 2 && length(policy.documentation[0].content) > 50])
    error_message = "Everybody is told of everything, with what to do."
  }
  assert {
    condition     = length(setsubtract(["Dead letters", "A watermark is behind", "A job failed", "Objects in failed/", "Tests failed", "A batch waits", "An extraction failed", "A batch is held", "A load is tried again and again", "No extraction", "No sweep"], output.policies)) == 0
    error_message = jsonencode(output.policies)
  }
  assert {
    condition     = google_logging_metric.measured["table_lag"].bucket_options[0].exponential_buckets[0].scale * 64 == 36 * 3600
    error_message = "The threshold is a bound of the metric's buckets."
  }
  assert {
    condition     = google_billing_budget.monthly[0].amount[0].specified_amount[0].units == "50" && google_billing_budget.monthly[0].budget_filter[0].projects == toset(["projects/123456789012"])
    error_message = "The budget is not what was asked for."
  }
}

# ---- delivery

run "delivery" {
  module { source = "../../modules/delivery" }
  variables {
    project_id        = "p"
    region            = "southamerica-east1"
    accounts          = { build = "credix-build", plan = "credix-plan" }
    pool              = "credix-github"
    github_repository = "owner/name"
    state_bucket      = "state"
    repository        = "credix-images"
    runs_as           = { extractor = "e@p.iam.gserviceaccount.com", loader = "l@p.iam.gserviceaccount.com", transformer = "t@p.iam.gserviceaccount.com" }
    services          = { loader = "credix-loader", transformer = "credix-transformer" }
    jobs              = { extractor = "credix-extractor", sweep = "credix-sweep", reconcile = "credix-reconcile", audit = "credix-audit", observe = "credix-observe" }
  }
  assert {
    condition     = output.repository_condition == "assertion.repository == \"owner/name\""
    error_message = "Another repository could become the plan account."
  }
  assert {
    condition     = length([for grant in google_project_iam_member.plans : grant.role if can(regex("admin|editor|owner|/viewer$|User$", grant.role)) && grant.role != "roles/iam.workloadIdentityUser"]) == 0
    error_message = "A plan changes nothing and reads no object: ${jsonencode([for grant in google_project_iam_member.plans : grant.role])}"
  }
  assert {
    condition     = toset([for grant in google_project_iam_member.builds : grant.role]) == toset(["roles/logging.logWriter", "roles/ondemandscanning.admin"])
    error_message = "A build deploys to what is there, and changes nobody's rights."
  }
}
