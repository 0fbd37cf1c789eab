"""Observability: Elementary's report and alerts, and dbt's docs, beside the run reports; never on the merge path.

All of dbt and Elementary runs as processes of their own, with a time limit, in a folder that is removed afterwards.
"""
