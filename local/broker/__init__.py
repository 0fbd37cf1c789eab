"""A local broker that speaks Pub/Sub's gRPC API and delivers by push and by pull; README.md says what it leaves out."""
