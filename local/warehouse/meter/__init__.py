"""The meter: what BigQuery would bill on demand for a job of the local warehouse.

================== ===============================================================
:mod:`.scanned`    the tables and columns that a statement reads, views expanded
:mod:`.sizes`      logical bytes of columns, from the stored rows
:mod:`.billing`    bytes processed and billed, by BigQuery's rules
:mod:`.results`    which answers BigQuery would have taken from its cache
================== ===============================================================
"""
