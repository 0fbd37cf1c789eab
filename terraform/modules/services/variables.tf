variable "region" {
  description = "Region of services and jobs."
  type        = string
}

variable "names" {
  description = "Names of the services (loader, transformer) and of the jobs (extractor, sweep, reconcile, audit, observe)."
  type        = object({ services = map(string), jobs = map(string) })
}

variable "accounts" {
  description = "E-mail addresses of the accounts, by purpose."
  type        = map(string)
}

variable "facts" {
  description = "What environment.json refers to: names and sizes of everything that a service must know."
  type        = map(string)
}

variable "secrets" {
  description = "Ids of the secrets that have a value, by variable."
  type        = map(string)
}

variable "tuning" {
  description = "Values of settings that are otherwise left at the code's default, by service and variable."
  type        = map(map(string))
  default     = {}
}

variable "extractor" {
  description = "Size of the extractor's job; timeout in seconds."
  type        = object({ cpu = string, memory = string, tasks = number, retries = number, timeout = number })
}

variable "loader" {
  description = "Size of the loader; timeout in seconds."
  type        = object({ cpu = string, memory = string, concurrency = number, max_instances = number, timeout = number })
}

variable "transformer" {
  description = "Size of the transformer; timeout in seconds."
  type        = object({ cpu = string, memory = string, concurrency = number, max_instances = number, timeout = number })
}

variable "cloud_sql_instance" {
  description = "project:region:instance whose socket the extractor gets, or empty."
  type        = string
  default     = ""
}

variable "network" {
  description = "Network and subnetwork through which the extractor reaches private addresses, or null."
  type        = object({ network = string, subnetwork = string })
  default     = null
}

variable "deletion_protection" {
  description = "Whether services and jobs can't be deleted."
  type        = bool
}
