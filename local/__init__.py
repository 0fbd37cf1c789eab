"""What runs on one machine: the local stack, its broker and warehouse, and sample data."""
