"""The GoogleSQL that BigQuery speaks: the engine knows more, and a little is off in it that BigQuery has.

By the release notes and the reference of BigQuery, checked against the statements of this project
(https://cloud.google.com/bigquery/docs/reference/standard-sql/introduction).
"""

from typing import Any

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2 as analyzer_options_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2, type_pb2

from local.googlesql.engine import Instance

_NOT_IN_BIGQUERY = """
TIMESTAMP_NANOS TIMESTAMP_PICOS TIMESTAMP_PRECISION PARSE_TIMESTAMP_WITH_PRECISION_AND_TIMEZONE EXTENDED_TYPES
UUID_TYPE MAP_TYPE ARRAY_EQUALITY ARRAY_ORDERING ARRAY_GREATEST_LEAST BETWEEN_UINT64_INT64
TIMESTAMP_FROM_UNIX_FUNCTIONS_WITH_UINT64 DML_RETURNING FOR_UPDATE INSERT_ON_CONFLICT_CLAUSE AGGREGATE_FILTERING
MULTILEVEL_AGGREGATION MULTILEVEL_AGGREGATION_ON_UDAS LATERAL_JOIN LATERAL_COLUMN_REFERENCES LIMIT_OFFSET_EXPRESSIONS
LITERAL_CONCATENATION NULLIFZERO_ZEROIFNULL PI_FUNCTIONS FIRST_AND_LAST_N IMPLICIT_COERCION_STRING_LITERAL_TO_BYTES
JSON_TYPE_COMPARISON ENABLE_MEASURES SINGLETON_UNNEST_INFERS_ALIAS ARRAY_ZIP MULTIWAY_UNNEST INLINE_LAMBDA_ARGUMENT
ARRAY_FIND_FUNCTIONS FILTER_FIELDS REPLACE_FIELDS UNNEST_AND_FLATTEN_ARRAYS EXPERIMENTAL_MODULES WITH_GROUP_ROWS
TOKENIZED_SEARCH STRATIFIED_RESERVOIR_TABLESAMPLE TABLESAMPLE_FROM_TABLE_VALUED_FUNCTIONS ALLOW_SLASH_PATHS
ANONYMIZATION GENERATED_BY_DEFAULT BRACED_PROTO_CONSTRUCTORS KLL_WEIGHTS KLL_FLOAT64_PRIMARY_WITH_DOUBLE_ALIAS
SQL_GRAPH_PATH_TYPE ORDERED_PRIMARY_KEYS TTL PROTO_DEFAULT_IF_NULL EXTRACT_FROM_PROTO PROTO_MAPS
ENUM_VALUE_DESCRIPTOR_PROTO EXTRACT_ONEOF_CASE FROM_AND_TO_PROTO_INTERVAL
""".split()  # noqa: SIM905 - words, not quotes
_OFF_BUT_IN_BIGQUERY = """
ALTER_COLUMN_SET_DATA_TYPE CREATE_TABLE_CLONE CLONE_DATA CREATE_VIEWS_WITH_COLUMN_OPTIONS DISABLE_FLOAT32
NON_SQL_PROCEDURE ALTER_MATERIALIZED_VIEW_ALTER_COLUMN_SET_OPTIONS STRICT_FUNCTION_DEFAULT_ARG_TYPE_COERCION
""".split()  # noqa: SIM905
_RESERVED_WORDS = ("QUALIFY", "GRAPH_TABLE")
"""Words that are names in GoogleSQL and reserved in BigQuery."""


def bigquery_language(engine: Instance) -> Any:
    """The language options of BigQuery.

    Raises:
        ValueError: this version of the engine does not know a feature that is named above.
    """
    every = engine.call(
        "GetLanguageOptions",
        local_service_pb2.LanguageOptionsRequest(maximum_features=True),
        analyzer_options_pb2.LanguageOptionsProto,
    )
    features = set(every.enabled_language_features) - {_feature(name) for name in _NOT_IN_BIGQUERY}
    features |= {_feature(name) for name in _OFF_BUT_IN_BIGQUERY}
    return analyzer_options_pb2.LanguageOptionsProto(
        product_mode=options_pb2.PRODUCT_EXTERNAL,
        name_resolution_mode=options_pb2.NAME_RESOLUTION_DEFAULT,
        enabled_language_features=sorted(features),
        reserved_keywords=_RESERVED_WORDS,
    )


def _feature(name: str) -> int:
    return int(options_pb2.LanguageFeature.Value(f"FEATURE_{name}"))


def analyzer_options(language: Any, parameters: tuple[tuple[str, Any], ...] = (), *, evaluated: bool = False) -> Any:
    """The analyzer's options for a statement.

    Args:
        language: what the engine speaks.
        parameters: names and types of the statement's parameters; an empty name is that of one by position.
        evaluated: for the reference implementation, which knows no system variables.
    """
    options = analyzer_options_pb2.AnalyzerOptionsProto(
        language_options=language,
        default_timezone="UTC",
        error_message_mode=options_pb2.ERROR_MESSAGE_ONE_LINE,
        prune_unused_columns=False,
    )
    if not evaluated:
        text = type_pb2.TypeProto(type_kind=type_pb2.TYPE_STRING)
        options.system_variables.add(name_path=["time_zone"], type=text)
    for name, type_ in parameters:
        if name:
            options.query_parameters.add(name=name, type=type_)
        else:
            options.parameter_mode = options_pb2.PARAMETER_POSITIONAL
            options.positional_query_parameters.add().CopyFrom(type_)
    return options
