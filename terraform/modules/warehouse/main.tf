# The datasets of the layers, and a stable table per declared source table.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "project_id" {
  description = "The project."
  type        = string
}

variable "datasets" {
  description = "Ids of the datasets, by layer."
  type = object({
    temp = string, bronze = string, silver = string, gold = string, elementary = string, elementary__tests = string
  })
}

variable "location" {
  description = "Where the datasets are."
  type        = string
}

variable "temp_table_days" {
  description = "Days after which a table of the temp dataset is dropped."
  type        = number
}

variable "loader" {
  description = "E-mail address of the loader's account."
  type        = string
}

variable "transformer" {
  description = "E-mail address of the transformer's account."
  type        = string
}

variable "operators" {
  description = "The operators' group, or null."
  type        = string
  default     = null
}

variable "analysts" {
  description = "The analysts' group, or null."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether a destroy is refused while there are tables."
  type        = bool
}

locals {
  operators = compact([var.operators])
  people    = compact([var.operators, var.analysts])

  leaves = {
    temp              = { description = "A table per batch, until it is merged; and per source table the last batch.", writers = [var.loader, var.transformer], readers = local.operators }
    gold              = { description = "What the business reads.", writers = [var.transformer], readers = local.people }
    elementary        = { description = "What Elementary keeps of runs and tests.", writers = [var.transformer], readers = local.operators }
    elementary__tests = { description = "What Elementary's tests keep for a moment.", writers = [var.transformer], readers = local.operators }
  }
}

module "leaf" {
  source   = "./dataset"
  for_each = local.leaves

  project_id          = var.project_id
  id                  = var.datasets[each.key]
  location            = var.location
  description         = each.value.description
  writers             = each.value.writers
  readers             = each.value.readers
  table_days          = each.key == "temp" ? var.temp_table_days : null
  deletion_protection = var.deletion_protection
}

# Silver and gold are views. These two say that the views of the layers above may read them, so analysts need no right
# to bronze, where the personal data is.
module "silver" {
  source = "./dataset"

  project_id          = var.project_id
  id                  = var.datasets.silver
  location            = var.location
  description         = "Cleaned rows, and those that were left out, with the reason."
  writers             = [var.transformer]
  readers             = local.people
  views_of            = { gold = module.leaf["gold"].id }
  deletion_protection = var.deletion_protection
}

module "bronze" {
  source = "./dataset"

  project_id          = var.project_id
  id                  = var.datasets.bronze
  location            = var.location
  description         = "The source's rows, the newest version of each."
  writers             = [var.transformer]
  readers             = local.operators
  views_of            = { silver = module.silver.id, gold = module.leaf["gold"].id }
  deletion_protection = var.deletion_protection
}

# The last loaded batch of each declared table, for people: there, empty, from the first day on, so that queries and
# grants can name it. The loader writes it over with every batch; its columns are then the batch's.
resource "google_bigquery_table" "stable" {
  #checkov:skip=CKV_GCP_80:As the dataset.
  #checkov:skip=CKV_GCP_121:A copy of the last batch; there is nothing to protect.
  for_each = jsondecode(file("${path.module}/declared_tables.json"))

  dataset_id          = module.leaf["temp"].id
  table_id            = each.key
  description         = each.value.description
  schema              = jsonencode(each.value.schema)
  expiration_time     = 4102444800000 # 2100: the dataset's default is for the batches' tables
  deletion_protection = false

  lifecycle {
    ignore_changes = [schema, description, expiration_time]
  }
}

output "datasets" {
  description = "Ids of the datasets, by layer."
  value       = merge({ for layer, dataset in module.leaf : layer => dataset.id }, { silver = module.silver.id, bronze = module.bronze.id })
}
