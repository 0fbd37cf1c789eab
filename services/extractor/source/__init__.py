"""The source database: its catalog, clock and planner, and the snapshot that several connections read under."""
