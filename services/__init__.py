"""The services of credix-data-pipeline: extractor, loader, transformer, and the `credix` command."""
