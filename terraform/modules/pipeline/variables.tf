# The pipeline's variables. environments/*/variables.tf are links to this file: one declaration, one description.

# ---- where

variable "project_id" {
  description = "Google Cloud project that everything is in; one project per environment is the simplest boundary."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is a project's id (6 to 30 lower-case letters, digits, hyphens), not its name or number."
  }
}

variable "environment" {
  description = "Name of the environment; a label on everything, and part of no name (see qualifier)."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.environment))
    error_message = "environment is 2 to 16 lower-case letters, digits, hyphens, such as dev or prod."
  }
}

variable "region" {
  description = "Region of Cloud Run, Scheduler, Artifact Registry and the buckets; near the source database."
  type        = string
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region is a single region such as southamerica-east1; multi-regions are for bigquery_location."
  }
}

variable "bigquery_location" {
  description = "Location of the datasets. A load job reads buckets of the same region, or of a region in the multi-region."
  type        = string
  validation {
    condition     = can(regex("^(US|EU|[a-z]+-[a-z]+[0-9]{1,2})$", var.bigquery_location))
    error_message = "bigquery_location is US, EU, or a single region such as southamerica-east1."
  }
}

# ---- names

variable "prefix" {
  description = "First part of the names of topics, accounts, services, jobs, secrets."
  type        = string
  default     = "credix"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,11}$", var.prefix)) && !can(regex("-$|--|^goog", var.prefix))
    error_message = "prefix is 2 to 12 lower-case letters, digits, single hyphens, not ending in one, not beginning with goog: so every name fits the 30 characters of a service account."
  }
}

variable "qualifier" {
  description = "Last part of the names; empty where the environment has a project of its own, else a short word such as dev."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([a-z0-9]{1,5})?$", var.qualifier))
    error_message = "qualifier is empty or at most 5 lower-case letters and digits: so every name fits the 30 characters of a service account."
  }
}

variable "buckets" {
  description = "Bucket names; they are the world's, so every environment has its own."
  type        = object({ landing = string, archive = string, report = string, artifacts = string })
  validation {
    condition = alltrue([
      for name in values(var.buckets) :
      can(regex("^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$", name)) && !can(regex("^goog|google|g00gle", name))
    ])
    error_message = "A bucket's name is 3 to 63 lower-case letters, digits, _ and -, begins and ends with a letter or digit, and neither begins with goog nor contains google."
  }
  validation {
    condition     = length(distinct(values(var.buckets))) == 4
    error_message = "The four buckets differ: each has its own readers and its own retention."
  }
}

variable "datasets" {
  description = "First part of the names of the datasets, to which _temp, _bronze, _silver, _gold, _elementary are added."
  type        = string
  default     = "business_case"
  validation {
    condition     = can(regex("^[A-Za-z_][A-Za-z0-9_]{0,99}$", var.datasets))
    error_message = "datasets is at most 100 letters, digits and underscores, and begins with no digit."
  }
}

variable "object_prefix" {
  description = "What the objects' names begin with, in all buckets: <object_prefix>/landing/, /failed/, /archive/."
  type        = string
  default     = "business_case"
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.object_prefix))
    error_message = "object_prefix has letters, digits, _ and -, in parts between single slashes, and none at its ends."
  }
}

# ---- how long things are kept

variable "retention" {
  description = "Days after which things are deleted. soft_delete 0, else 7 to 90, is how long what was deleted can be brought back."
  type = object({
    landing         = optional(number, 90)
    failed          = optional(number, 90)
    archive         = optional(number, 365)
    archive_coldly  = optional(number, 30)
    report          = optional(number, 365)
    artifacts       = optional(number, 90)
    soft_delete     = optional(number, 7)
    temp_tables     = optional(number, 7)
    dead_letters    = optional(number, 14)
    images          = optional(number, 90)
    images_untagged = optional(number, 7)
  })
  default = {}
  validation {
    condition     = alltrue([for days in values(var.retention) : days >= 0 && floor(days) == days])
    error_message = "Every retention is a whole number of days."
  }
  validation {
    condition     = min(var.retention.landing, var.retention.failed, var.retention.archive) >= 7
    error_message = "landing, failed and archive keep objects for 7 days at least: what is there is the only copy of a batch."
  }
  validation {
    condition     = var.retention.archive_coldly == 0 || var.retention.archive_coldly < var.retention.archive
    error_message = "archive_coldly (days until the archive's objects become Nearline, 0 for never) comes before archive."
  }
  validation {
    condition     = var.retention.soft_delete == 0 || (var.retention.soft_delete >= 7 && var.retention.soft_delete <= 90)
    error_message = "soft_delete is 0, or 7 to 90 days."
  }
  validation {
    condition     = var.retention.dead_letters >= 1 && var.retention.dead_letters <= 31
    error_message = "dead_letters is 1 to 31 days: no subscription keeps messages for longer."
  }
  validation {
    condition     = var.retention.temp_tables >= 2
    error_message = "temp_tables is 2 days at least: a batch whose table expires before it is merged is read again."
  }
}

variable "deletion_protection" {
  description = "Whether a destroy is refused while it would lose data: datasets with tables, filled buckets, the state, the services."
  type        = bool
  default     = true
}

# ---- who

variable "report_public" {
  description = "Whether everybody on the internet may read the report bucket."
  type        = bool
  default     = false
}

variable "groups" {
  description = "Google groups of people: operators look at everything and start jobs, analysts read silver, gold and the reports."
  type        = object({ operators = optional(string), analysts = optional(string) })
  default     = {}
  validation {
    condition     = alltrue([for group in values(var.groups) : group == null ? true : can(regex("^[^@:\\s]+@[^@\\s]+$", group))])
    error_message = "A group is an e-mail address without a prefix such as group:."
  }
}

variable "delivery" {
  description = "The GitHub repository (owner/name) whose pull requests may plan, and the branch whose builds deploy; null for neither."
  type        = object({ github_repository = string, state_bucket = string })
  default     = null
  validation {
    condition     = var.delivery == null ? true : can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.delivery.github_repository))
    error_message = "github_repository is owner/name."
  }
}

# ---- the source

variable "source_database" {
  description = "The PostgreSQL server. With cloud_sql_instance (project:region:instance) its socket is used, and host stays empty."
  type = object({
    host               = optional(string, "")
    port               = optional(number, 5432)
    name               = optional(string, "credix_transactions")
    user               = string
    sslmode            = optional(string, "require")
    cloud_sql_instance = optional(string, "")
  })
  validation {
    condition     = (var.source_database.host == "") != (var.source_database.cloud_sql_instance == "")
    error_message = "source_database has either a host or a cloud_sql_instance."
  }
  validation {
    condition     = can(regex("^([^:]+:[^:]+:[^:]+)?$", var.source_database.cloud_sql_instance))
    error_message = "cloud_sql_instance is project:region:instance."
  }
  validation {
    condition     = contains(["disable", "allow", "prefer", "require", "verify-ca", "verify-full"], var.source_database.sslmode)
    error_message = "sslmode is one of libpq's: disable, allow, prefer, require, verify-ca, verify-full."
  }
}

variable "network" {
  description = "Direct VPC egress of the extractor, for a server with a private address: an existing subnetwork, or cidr for a new one; null for none."
  type        = object({ cidr = optional(string), network = optional(string), subnetwork = optional(string) })
  default     = null
  validation {
    condition = var.network == null ? true : (
      (var.network.cidr != null) != (var.network.network != null && var.network.subnetwork != null)
    )
    error_message = "network has either a cidr, for which a network is made, or a network and a subnetwork that are there."
  }
  validation {
    condition     = try(var.network.cidr, null) == null ? true : can(cidrnetmask(var.network.cidr))
    error_message = "cidr is an IPv4 range such as 10.8.0.0/26."
  }
}

variable "secrets_in_use" {
  description = "Secrets that have a value already, so that services may refer to them: POSTGRES_PASSWORD, EXTRACT_MASK_SECRET, SLACK_WEBHOOK, TEAMS_WEBHOOK."
  type        = set(string)
  default     = ["POSTGRES_PASSWORD"]
  validation {
    condition = length(setsubtract(var.secrets_in_use, [
      "POSTGRES_PASSWORD", "EXTRACT_MASK_SECRET", "SLACK_WEBHOOK", "TEAMS_WEBHOOK"
    ])) == 0
    error_message = "secrets_in_use knows POSTGRES_PASSWORD, EXTRACT_MASK_SECRET, SLACK_WEBHOOK, TEAMS_WEBHOOK."
  }
  validation {
    condition     = !(contains(var.secrets_in_use, "SLACK_WEBHOOK") && contains(var.secrets_in_use, "TEAMS_WEBHOOK"))
    error_message = "Elementary sends its alerts to one place: SLACK_WEBHOOK or TEAMS_WEBHOOK."
  }
}

# ---- the services

variable "state" {
  description = "The Firestore database: its id, its location (by default the region), the prefix of its collections, point-in-time recovery."
  type = object({
    database               = optional(string, "(default)")
    location               = optional(string)
    namespace              = optional(string, "credix")
    point_in_time_recovery = optional(bool, false)
  })
  default = {}
  validation {
    condition     = can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.state.database))
    error_message = "A Firestore database's id is (default), or 4 to 63 lower-case letters, digits and hyphens."
  }
  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{0,39}$", var.state.namespace))
    error_message = "namespace is at most 40 lower-case letters, digits, _ and -."
  }
}

variable "extractor" {
  description = "Size of the extractor's job: CPUs, memory, tasks that share the tables, tries of a task, most seconds of one."
  type = object({
    cpu     = optional(string, "1")
    memory  = optional(string, "2Gi")
    tasks   = optional(number, 1)
    retries = optional(number, 2)
    timeout = optional(number, 3600)
  })
  default = {}
  validation {
    condition     = var.extractor.tasks >= 1 && var.extractor.tasks <= 100 && floor(var.extractor.tasks) == var.extractor.tasks
    error_message = "tasks is 1 to 100: every task has its own connections to the source."
  }
  validation {
    condition     = var.extractor.retries >= 1 && var.extractor.retries <= 10
    error_message = "retries is 1 to 10: a task that is tried again goes on with its batch, without retries the table is read anew."
  }
  validation {
    condition     = var.extractor.timeout >= 60 && var.extractor.timeout <= 604800
    error_message = "timeout is 60 to 604,800 seconds (7 days)."
  }
}

variable "loader" {
  description = "Size of the loader: CPUs, memory, requests that an instance takes at once (at most its 8 threads), instances, seconds of a load job and of a request."
  type = object({
    cpu           = optional(string, "1")
    memory        = optional(string, "1Gi")
    concurrency   = optional(number, 8)
    max_instances = optional(number, 5)
    load_timeout  = optional(number, 540)
    timeout       = optional(number, 1200)
  })
  default = {}
  validation {
    condition     = var.loader.concurrency >= 1 && var.loader.concurrency <= 8
    error_message = "concurrency is 1 to 8: the image serves with 8 threads, and a request more would wait for one."
  }
  validation {
    condition     = var.loader.load_timeout <= 570
    error_message = "load_timeout is at most 570 s: the push is delivered again after 600."
  }
  validation {
    condition     = var.loader.timeout >= var.loader.load_timeout + 420 && var.loader.timeout <= 3600
    error_message = "timeout covers the load job, then a minute's wait and five for the stable table, then the archiving: load_timeout + 420 s at least, 3,600 at most."
  }
  validation {
    condition     = var.loader.max_instances >= 1 && var.loader.max_instances <= 20
    error_message = "max_instances is 1 to 20."
  }
}

variable "transformer" {
  description = "Size of the transformer, as service and as jobs. A request may take as long as a reconcile: Pub/Sub asks again after 600 s and is told that another is at it. usd_per_tib is BigQuery's price in the region, as costs are told by it."
  type = object({
    cpu              = optional(string, "1")
    memory           = optional(string, "2Gi")
    concurrency      = optional(number, 8)
    max_instances    = optional(number, 2)
    timeout          = optional(number, 3600)
    max_bytes_billed = optional(number)
    usd_per_tib      = optional(number, 6.25)
  })
  default = {}
  validation {
    condition     = var.transformer.concurrency >= 1 && var.transformer.concurrency <= 8
    error_message = "concurrency is 1 to 8: the image serves with 8 threads, and a request more would wait for one."
  }
  validation {
    condition     = var.transformer.timeout >= 1800 && var.transformer.timeout <= 3600
    error_message = "timeout is 1,800 s (dbt's limit of one statement) to 3,600 (Cloud Run's of a request)."
  }
  validation {
    condition     = var.transformer.max_instances >= 1 && var.transformer.max_instances <= 5
    error_message = "max_instances is 1 to 5: one reconciles at a time, the others only answer that it does."
  }
  validation {
    condition     = var.transformer.usd_per_tib >= 0
    error_message = "usd_per_tib is a price in USD, 0 or more."
  }
}

variable "tuning" {
  description = "Settings of docs/configuration.md that are left at the code's default unless they are here: service, then variable, then value."
  type        = map(map(string))
  default     = {}
  validation {
    condition     = length(setsubtract(keys(var.tuning), ["extractor", "loader", "transformer"])) == 0
    error_message = "tuning is for extractor, loader and transformer."
  }
}

variable "schedules" {
  description = "When the jobs run (cron), in which time zone, and whether all of them rest."
  type = object({
    extract   = optional(string, "*/15 * * * *")
    sweep     = optional(string, "7,22,37,52 * * * *")
    reconcile = optional(string, "30 * * * *")
    audit     = optional(string, "45 5 * * *")
    observe   = optional(string, "0 6 * * *")
    time_zone = optional(string, "Etc/UTC")
    paused    = optional(bool, false)
  })
  default = {}
  validation {
    condition = alltrue([
      for cron in [var.schedules.extract, var.schedules.sweep, var.schedules.reconcile, var.schedules.audit, var.schedules.observe] :
      length(split(" ", cron)) == 5
    ])
    error_message = "A schedule has five fields: minute, hour, day, month, weekday."
  }
}

# ---- what is watched

variable "alerts" {
  description = "Who is told (e-mail addresses), and from when on: hours that bronze is behind (status and report say so too: LATE_AFTER), minutes that a batch waits, hours without a successful extraction."
  type = object({
    emails              = list(string)
    lag_hours           = optional(number, 26)
    waiting_minutes     = optional(number, 60)
    extraction_silent_h = optional(number, 3)
  })
  validation {
    condition     = length(var.alerts.emails) > 0 && alltrue([for email in var.alerts.emails : can(regex("^[^@\\s]+@[^@\\s]+$", email))])
    error_message = "alerts.emails names at least one e-mail address: an alert that nobody gets is none."
  }
  validation {
    condition     = var.alerts.extraction_silent_h >= 1 && var.alerts.extraction_silent_h <= 23
    error_message = "extraction_silent_h is 1 to 23: Cloud Monitoring looks back a day for what is absent."
  }
}

variable "budget" {
  description = "Monthly budget on the project: billing account, amount, currency; null for none. Who applies it needs the right to on the billing account."
  type        = object({ billing_account = string, amount = number, currency = optional(string, "USD") })
  default     = null
  validation {
    condition     = var.budget == null ? true : can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "billing_account looks like 012345-6789AB-CDEF01."
  }
}

variable "daily_query_quota_tib" {
  description = "Most TiB that all queries in the project may read in a day, people's too; null for BigQuery's own limit of 200. Beyond it queries are refused until midnight Pacific time: the pipeline waits, and goes on."
  type        = number
  default     = null
  validation {
    condition     = var.daily_query_quota_tib == null ? true : var.daily_query_quota_tib > 0
    error_message = "daily_query_quota_tib is more than 0, or null."
  }
}
