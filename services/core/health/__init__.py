"""Is the pipeline well? What is seen of it (overview), and what of that needs a person (attention)."""
