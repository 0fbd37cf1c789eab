output "images" {
  description = "What the images' names begin with: _IMAGES of cloudbuild.yaml."
  value       = module.registry.url
}

output "services" {
  description = "Names of the Cloud Run services, by purpose."
  value       = module.services.services
}

output "jobs" {
  description = "Names of the Cloud Run jobs, by purpose."
  value       = module.services.jobs
}

output "secrets" {
  description = "Ids of the secrets, by the variable that a service reads; their values are added by hand."
  value       = module.secrets.ids
}

output "delivery" {
  description = "For cloudbuild.yaml and the GitHub workflow: accounts and provider; null without delivery."
  value = var.delivery == null ? null : {
    build_account = module.delivery[0].build_account
    plan_account  = module.delivery[0].plan_account
    provider      = module.delivery[0].provider
  }
}

output "credix_environment" {
  description = "Variables of the credix command, to look at this environment from a desk."
  value       = module.services.environment["credix"]
}

output "environment" {
  description = "Variables of every service; no secret."
  value       = module.services.environment
}

output "grants" {
  description = "Who may do what."
  value       = module.identities.grants
}

output "alerts" {
  description = "Titles of the alerts."
  value       = module.observability.policies
}
