# Everything that anybody may do, but for the datasets (modules/warehouse: their access is a part of them), for Google's
# own agents (modules/messaging) and for delivery (modules/delivery). Each grant is on the narrowest thing that has
# grants; what can only be granted on the project has a condition where Google Cloud knows one.

locals {
  project = var.project_id
  members = merge(
    { for purpose, account in google_service_account.this : purpose => "serviceAccount:${account.email}" },
    { for name, group in var.groups : name => "group:${group}" if group != null },
  )

  # On buckets. objectUser and not objectCreator: a move deletes, and a copy that is made again writes over the first.
  bucket_grants = {
    extractor   = { landing = "roles/storage.objectUser" }
    loader      = { landing = "roles/storage.objectUser", archive = "roles/storage.objectUser" }
    transformer = { landing = "roles/storage.objectViewer", report = "roles/storage.objectUser", artifacts = "roles/storage.objectUser" }
    operators   = { for bucket in ["landing", "archive", "report", "artifacts"] : bucket => "roles/storage.objectViewer" }
    analysts    = { report = "roles/storage.objectViewer" }
  }

  # Operators: credix release tells the transformer.
  topic_grants        = { loader = ["batch_loaded", "alerts"], transformer = ["alerts"], operators = ["batch_loaded"] }
  secret_grants       = { extractor = ["POSTGRES_PASSWORD", "EXTRACT_MASK_SECRET"], transformer = ["SLACK_WEBHOOK", "TEAMS_WEBHOOK"] }
  subscription_grants = { operators = keys(var.subscriptions) }

  state = "resource.name == \"projects/${local.project}/databases/${var.firestore_database}\""
  sql   = split(":", var.cloud_sql_instance)
  source = var.cloud_sql_instance == "" ? "" : join(" && ", [
    "resource.name == \"projects/${local.sql[0]}/instances/${local.sql[2]}\"",
    "resource.service == \"sqladmin.googleapis.com\"",
  ])

  # On the project, with the condition: "" for none, because the role is on the project itself. What its runs cost, the
  # transformer reads from the list of its own jobs, for which no permission is needed
  # (https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list): nobody has bigquery.jobs.listAll.
  project_grants = {
    extractor   = merge({ "roles/datastore.user" = local.state }, var.cloud_sql_instance == "" ? {} : { "roles/cloudsql.client" = local.source })
    loader      = { "roles/datastore.user" = local.state, "roles/bigquery.jobUser" = "" }
    transformer = { "roles/datastore.user" = local.state, "roles/bigquery.jobUser" = "" }
    analysts    = { "roles/bigquery.jobUser" = "" }
    operators = {
      # They decide about held batches (credix release, credix discard). A job that they start can write the state anyhow.
      "roles/datastore.user"        = local.state
      "roles/bigquery.jobUser"      = ""
      "roles/cloudscheduler.viewer" = ""
      "roles/logging.viewer"        = ""
      "roles/monitoring.viewer"     = ""
      "roles/pubsub.viewer"         = ""
      "roles/run.viewer"            = ""
    }
  }

  service_grants = { push = { for service in keys(var.services) : service => "roles/run.invoker" } }
  job_grants = {
    scheduler = { for job in keys(var.jobs) : job => "roles/run.invoker" }
    operators = { for job in keys(var.jobs) : job => "roles/run.jobsExecutorWithOverrides" }
  }

  # The tables above as one map each, by "who on what", without groups that there are none of.
  on_buckets = merge([for who, grants in local.bucket_grants : {
    for bucket, role in grants : "${who} on ${bucket}" => { who = who, bucket = bucket, role = role }
  } if contains(keys(local.purposes), who) || try(var.groups[who], null) != null]...)
  on_topics = merge([for who, topics in local.topic_grants : {
    for topic in topics : "${who} on ${topic}" => { who = who, topic = topic }
  } if contains(keys(local.purposes), who) || try(var.groups[who], null) != null]...)
  on_secrets = merge([for who, secrets in local.secret_grants : {
    for secret in secrets : "${who} on ${secret}" => { who = who, secret = secret }
  }]...)
  on_subscriptions = merge([for who, subscriptions in local.subscription_grants : {
    for subscription in subscriptions : "${who} on ${subscription}" => { who = who, subscription = subscription }
  } if try(var.groups[who], null) != null]...)
  on_project = merge([for who, grants in local.project_grants : {
    for role, condition in grants : "${who} ${role}" => { who = who, role = role, condition = condition }
  } if contains(keys(local.purposes), who) || try(var.groups[who], null) != null]...)
  on_services = merge([for who, grants in local.service_grants : {
    for service, role in grants : "${who} on ${service}" => { who = who, service = service, role = role }
  }]...)
  on_jobs = merge([for who, grants in local.job_grants : {
    for job, role in grants : "${who} on ${job}" => { who = who, job = job, role = role }
  } if contains(keys(local.purposes), who) || try(var.groups[who], null) != null]...)
}

resource "google_storage_bucket_iam_member" "this" {
  for_each = local.on_buckets
  bucket   = var.buckets[each.value.bucket]
  role     = each.value.role
  member   = local.members[each.value.who]
}

resource "google_pubsub_topic_iam_member" "this" {
  for_each = local.on_topics
  topic    = var.topics[each.value.topic]
  role     = "roles/pubsub.publisher"
  member   = local.members[each.value.who]
}

# To look at a message is to pull it: there is no lesser role.
resource "google_pubsub_subscription_iam_member" "this" {
  for_each     = local.on_subscriptions
  subscription = var.subscriptions[each.value.subscription]
  role         = "roles/pubsub.subscriber"
  member       = local.members[each.value.who]
}

resource "google_secret_manager_secret_iam_member" "this" {
  for_each  = local.on_secrets
  secret_id = var.secrets[each.value.secret]
  role      = "roles/secretmanager.secretAccessor"
  member    = local.members[each.value.who]
}

resource "google_cloud_run_v2_service_iam_member" "this" {
  for_each = local.on_services
  location = var.region
  name     = var.services[each.value.service]
  role     = each.value.role
  member   = local.members[each.value.who]
}

resource "google_cloud_run_v2_job_iam_member" "this" {
  for_each = local.on_jobs
  location = var.region
  name     = var.jobs[each.value.job]
  role     = each.value.role
  member   = local.members[each.value.who]
}

resource "google_project_iam_member" "this" {
  for_each = local.on_project
  project  = local.project
  role     = each.value.role
  member   = local.members[each.value.who]

  dynamic "condition" {
    for_each = each.value.condition == "" ? [] : [each.value.condition]
    content {
      title      = "Only the pipeline's own"
      expression = condition.value
    }
  }
}

output "grants" {
  description = "Who may do what, on what, for tests and for docs/security.md."
  value = {
    buckets       = { for key, grant in local.on_buckets : key => grant.role }
    topics        = keys(local.on_topics)
    subscriptions = keys(local.on_subscriptions)
    secrets       = keys(local.on_secrets)
    services      = { for key, grant in local.on_services : key => grant.role }
    jobs          = { for key, grant in local.on_jobs : key => grant.role }
    project       = { for key, grant in local.on_project : key => grant.condition }
  }
}

# Cloud Run refuses a service whose account may not read its secrets: whoever names a secret takes it from here.
output "readable_secrets" {
  description = "Ids of the secrets, by variable, when their services may read them."
  value       = var.secrets
  depends_on  = [google_secret_manager_secret_iam_member.this]
}
