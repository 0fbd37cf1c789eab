"""BigQuery on one machine: the bqemulator package, started in-process and made to keep BigQuery's promises.

``python -m local.warehouse`` starts it; :mod:`local.warehouse.patches` lists what is made true.
"""
