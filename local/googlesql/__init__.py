"""Google's own SQL engine, in process: what BigQuery would say of a statement, and what it would answer.

The wheel ``zetasql`` carries GoogleSQL's analyzer and reference implementation as WebAssembly (Apache-2.0). It is a
development dependency: nothing that is deployed imports this package, and the local stack works without the wheel.
``python -m local.googlesql`` compiles the WebAssembly once for this machine.

===================== ==========================================================================
:mod:`.compiled`      the WebAssembly as machine code, kept beside the wheel
:mod:`.engine`        one instance of it, and its calls
:mod:`.language`      the features of GoogleSQL that BigQuery has
:mod:`.types`         types of REST schemas, and GoogleSQL's
:mod:`.names`         quoted paths, and what is text or comment in a statement
:mod:`.catalog`       tables and views, for the analyzer
:mod:`.metadata`      INFORMATION_SCHEMA and ``__TABLES__``, as BigQuery documents them
:mod:`.analysis`      a statement's kind, columns, types and resolved tree, or why it is refused
:mod:`.tree`          resolved trees
:mod:`.values`        values of rows, to GoogleSQL's and back
:mod:`.evaluation`    a query's rows by the reference implementation
===================== ==========================================================================
"""
