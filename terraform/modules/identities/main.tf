# Who the services are. No account has a key; what each may do is in grants.tf.

terraform {
  required_providers {
    google = { source = "hashicorp/google", version = "~> 8.7" }
  }
}

variable "accounts" {
  description = "Ids of the service accounts, by purpose: extractor, loader, transformer, push, scheduler."
  type        = map(string)
}

locals {
  purposes = {
    extractor   = "Reads the source, writes landing/."
    loader      = "Loads what landed, archives or rejects it; also sweeps."
    transformer = "Merges, builds, tests and reports."
    push        = "Pub/Sub's push requests are signed for it."
    scheduler   = "Cloud Scheduler starts jobs as it."
  }
}

resource "google_service_account" "this" {
  for_each = local.purposes

  account_id   = var.accounts[each.key]
  display_name = "Pipeline: ${each.key}"
  description  = each.value
}

output "emails" {
  description = "E-mail addresses, by purpose."
  value       = { for purpose, account in google_service_account.this : purpose => account.email }
}
