"""Parquet files that somebody dropped into landing/ by hand: read in a process of their own, landed as batches."""

RANGE_BYTES = 1024 * 1024
"""Of a file: what that process asks for at a time."""

MOST_PART_BYTES = 128 * 1024 * 1024
"""Of a part that it hands over: a single row, where that is larger than a part should be. BigQuery takes no larger."""
