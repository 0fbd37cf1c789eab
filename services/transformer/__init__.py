"""Transformer: merges loaded batches into bronze, advances the watermark, builds and tests silver and gold."""
