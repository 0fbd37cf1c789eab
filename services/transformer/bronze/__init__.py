"""Bronze: how loaded batches come into it, as base and delta seen through one name. docs/bronze.md tells how and why.

================== ==================================================================================
:mod:`.round`      a round: what is loaded, what may go in, by which way; then it is taken in
:mod:`.compaction` which way: appended to the delta, or merged into the base
:mod:`.testing`    the row tests of what is about to go in
:mod:`.appending`  tested and appended in one statement, or appended once the tests are known
:mod:`.delta`      what is written in a delta
:mod:`.merging`    the MERGE into the base, by dbt; what fails is tried alone, then by halves
:mod:`.turn`       the job that writes is noted first, and asked afterwards
:mod:`.notes`      what the state, the log and the alerts hear of it
:mod:`.tables`     what BigQuery has of a bronze model
:mod:`.view`       what people read
:mod:`.batch_rows` a batch's rows as bronze has them
:mod:`.handover`   what dbt is told
:mod:`.shrinking`  snapshots that would delete too much
:mod:`.contract`   whether the dbt project fits tables.yaml
================== ==================================================================================
"""
