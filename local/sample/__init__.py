"""Sample data: a deterministic world of companies and receivables, its seeding, its changes, and Parquet folders."""
