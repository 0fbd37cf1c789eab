# What the grants are on: names, each known when the resource is there.

variable "project_id" {
  description = "The project."
  type        = string
}

variable "buckets" {
  description = "Names of the buckets, by purpose."
  type        = map(string)
}

variable "topics" {
  description = "Names of the topics, by purpose."
  type        = map(string)
}

variable "subscriptions" {
  description = "Names of the subscriptions that people look at."
  type        = map(string)
}

variable "secrets" {
  description = "Ids of the secrets, by variable."
  type        = map(string)
}

variable "services" {
  description = "Names of the Cloud Run services, by purpose."
  type        = map(string)
}

variable "jobs" {
  description = "Names of the Cloud Run jobs, by purpose."
  type        = map(string)
}

variable "region" {
  description = "Region of services and jobs."
  type        = string
}

variable "firestore_database" {
  description = "Id of the state's database."
  type        = string
}

variable "cloud_sql_instance" {
  description = "project:region:instance of the source, or empty."
  type        = string
  default     = ""
}

variable "groups" {
  description = "Google groups of people, or null."
  type        = object({ operators = optional(string), analysts = optional(string) })
  default     = {}
}
