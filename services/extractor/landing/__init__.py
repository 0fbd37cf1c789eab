"""The bucket: Parquet parts while reading goes on, the manifest last."""
