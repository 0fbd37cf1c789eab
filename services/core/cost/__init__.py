"""What runs cost: BigQuery's own statistics of their jobs, summed, kept in the history, and priced."""
