"""Loader: brings a landed batch into its own BigQuery table and moves its objects to the archive."""
