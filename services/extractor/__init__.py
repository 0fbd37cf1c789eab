"""Extractor: reads what changed since the watermark and lands it as a batch of Parquet parts and a manifest."""
