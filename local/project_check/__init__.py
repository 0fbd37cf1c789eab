"""The compiled dbt project before Google's analyzer, without a warehouse: part of ``make lint``.

=================== ==========================================================================
:mod:`.check`       dbt runs the project and bronze's shapes; what was found
:mod:`.shapes`      declared tables of every shape, and the batches merged into them
:mod:`.bronze_project` a dbt project of other bronze models
:mod:`.warehouse`   the analyzer and the evaluator as a warehouse without rows
:mod:`.rest`        BigQuery's REST API before it
:mod:`.declared`    types that are declared, and Google's
:mod:`.pruning`     whether a MERGE names its partitions
=================== ==========================================================================
"""
