"""Google's analyzer in front of the local warehouse: what BigQuery refuses, or types otherwise, is noticed here.

================= ==================================================================
:mod:`.tables`    the tables that a statement names, as the emulator's catalog has them
:mod:`.analyzer`  what the analyzer says of a statement, remembered; what was counted
:mod:`.answer`    an answer's columns against Google's
================= ==================================================================
"""
