# A network of its own for the extractor's Direct VPC egress, where the source has a private address and there is no
# network to join. Peering it with the server's network, or a Private Service Connect endpoint, is the server owner's.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "name" {
  description = "Name of the network and of its subnetwork."
  type        = string
}

variable "region" {
  description = "Region of the subnetwork."
  type        = string
}

variable "cidr" {
  description = "Range of the subnetwork. Direct VPC egress takes two addresses per task, and keeps them for a while: /26 or larger."
  type        = string
  validation {
    condition     = can(cidrnetmask(var.cidr)) && tonumber(split("/", var.cidr)[1]) <= 26
    error_message = "cidr is an IPv4 range of /26 or larger, such as 10.8.0.0/26."
  }
}

resource "google_compute_network" "this" {
  name                    = var.name
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "this" {
  name                     = var.name
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.cidr
  private_ip_google_access = true
  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }
}

# Nothing in this network listens, so nothing may come in; Google's default says the same, without a log.
resource "google_compute_firewall" "no_ingress" {
  name          = "${var.name}-no-ingress"
  network       = google_compute_network.this.id
  direction     = "INGRESS"
  priority      = 65534
  source_ranges = ["0.0.0.0/0"]
  deny {
    protocol = "all"
  }
}

output "network" {
  description = "Id of the network."
  value       = google_compute_network.this.id
}

output "subnetwork" {
  description = "Id of the subnetwork."
  value       = google_compute_subnetwork.this.id
}
