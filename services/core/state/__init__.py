"""State: watermarks, batches, leases and run history over one small document store with optimistic preconditions."""
