"""The declared contract against the source's types: mapping, masks, drift, names. Pure functions."""
