"""A table's extraction, from its lease to its outcome: what a crash left, plan, read, land, note; help for others."""
