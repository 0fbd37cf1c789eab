"""Every type of PostgreSQL with its edge values, and the BigQuery types that can be declared for it.

Values are as PostgreSQL reads them; each type gets a null, too. Any type can be a STRING.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.core.tables import ColumnType

INT64, NUMERIC, BIGNUMERIC, FLOAT64 = ColumnType.INT64, ColumnType.NUMERIC, ColumnType.BIGNUMERIC, ColumnType.FLOAT64
BOOL, BYTES, STRING = ColumnType.BOOL, ColumnType.BYTES, ColumnType.STRING
DATE, TIMESTAMP, DATETIME, TIME = ColumnType.DATE, ColumnType.TIMESTAMP, ColumnType.DATETIME, ColumnType.TIME


@dataclass(frozen=True)
class Sql:
    """A value that only an expression can make."""

    expression: str


@dataclass(frozen=True)
class Case:
    """A type, its edge values, and what it can be declared as; the first is the default type."""

    type: str
    values: Sequence[str | Sql]
    into: tuple[ColumnType, ...] = (STRING,)
    whole: bool = False
    """Whether those types hold every value that the type has, so that ``exact`` takes it; a STRING always does."""
    since: int = 13
    """First version of PostgreSQL that has the type, or reads the values."""
    needs: str | None = None
    """Extension, or ``libxml`` for a server that was built with it."""
    setup: list[str] = field(default_factory=list)
    """Statements that make the type."""

    @property
    def declared(self) -> tuple[ColumnType, ...]:
        """Everything it can be declared as."""
        return self.into if STRING in self.into else (*self.into, STRING)

    @property
    def holding(self) -> tuple[ColumnType, ...]:
        """What it can be declared as under ``exact``."""
        return self.declared if self.whole else (STRING,)


_DIGITS = "12345678901234567890123456789012345678"
_NUMERICS = ["0", "-0.000000001", "1e28", "NaN", "0.1", "-1", "99999999999999999999999999999.999999999"]

NUMBERS = [
    Case("smallint", ["-32768", "32767", "0"], (INT64, NUMERIC, BIGNUMERIC), whole=True),
    Case("integer", ["-2147483648", "2147483647", "0"], (INT64, NUMERIC, BIGNUMERIC), whole=True),
    Case("bigint", ["-9223372036854775808", "9223372036854775807", "0"], (INT64, NUMERIC, BIGNUMERIC), whole=True),
    Case("oid", ["0", "2147483648", "4294967295"], (INT64, NUMERIC, BIGNUMERIC), whole=True),
    Case("numeric(38,9)", _NUMERICS, (NUMERIC, BIGNUMERIC)),
    Case("numeric(18,2)", ["0.01", "-9999999999999999.99", "1.5", "NaN"], (NUMERIC, BIGNUMERIC)),
    Case("numeric(1)", ["9", "-9", "NaN"], (NUMERIC, BIGNUMERIC)),
    Case("numeric(3,-2)", ["12300", "-99900", "NaN"], (NUMERIC, BIGNUMERIC), since=15),
    Case("numeric(3,5)", ["0.00999", "-0.00001", "NaN"], (NUMERIC, BIGNUMERIC), since=15),
    Case("numeric(2,-36)", ["99" + "0" * 36, "NaN"], (BIGNUMERIC, NUMERIC), since=15),
    Case(
        "numeric(38,0)",
        [_DIGITS, "9" * 38, "-" + "9" * 29, "1" + "0" * 29, "4488889964378591503109049318243", "NaN"],
        (BIGNUMERIC, NUMERIC),
    ),
    Case("numeric(38,38)", [f"0.{_DIGITS}", "-0." + "9" * 38, "0.5", "NaN"], (BIGNUMERIC, NUMERIC)),
    Case("numeric(38,20)", ["0." + "1" * 20, "1.5", "-" + "9" * 18 + "." + "9" * 20], (BIGNUMERIC, NUMERIC)),
    Case("numeric(76,38)", [f"{_DIGITS}.{_DIGITS}", "-" + "9" * 38 + "." + "9" * 38, "NaN"], (BIGNUMERIC, NUMERIC)),
    Case("numeric(39,1)", [f"{_DIGITS}.9", "1.5", "NaN"], (BIGNUMERIC, NUMERIC)),
    Case("numeric(39,0)", [_DIGITS, "1" + _DIGITS, "9" * 39], (STRING, BIGNUMERIC, NUMERIC)),
    Case("numeric(1000,500)", ["9" * 500 + "." + "9" * 500, "1.25"], (STRING, BIGNUMERIC, NUMERIC)),
    Case(
        "numeric",
        [
            *_NUMERICS,
            "Infinity",
            "-Infinity",
            "1.500000000000000000000000000000000000000000000",  # more digits than a decimal has, all of them zeros
            "0.0000000001",
            f"0.{_DIGITS}",
            f"0.{_DIGITS}1",
            f"{_DIGITS}.{_DIGITS}",
            "100000000000000000000000000000",
            "-99999999999999999999999999999.9999999999",
            "1e38",
            "-9.9e37",
            "9" * 1000,
            "1e-1000",
            "3." + "0" * 100,
            "9007199254740993",  # not a double
            # Arrow's casts make other numbers of these, without an error.
            "340282366920938463463374607431768211456",
            "340316108532654156557176461295",
            "1160915192067782458219676018013973485421",
        ],
        (STRING, NUMERIC, BIGNUMERIC),
        since=14,
    ),
    Case(
        "real",
        ["0.1", "-0", "NaN", "Infinity", "-Infinity", "3.4028235e38", "1e-45", "1.1754944e-38", "16777217"],
        (FLOAT64,),
        whole=True,
    ),
    Case(
        "double precision",
        [
            "0.1",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072014e-308",
            "0.30000000000000004",
            "9007199254740993",
            "1e23",
        ],
        (FLOAT64,),
        whole=True,
    ),
    Case(
        "money",
        ["12.34", "-0.01", "92233720368547758.07", "-92233720368547758.08", "0"],
        (NUMERIC, BIGNUMERIC),
        whole=True,
    ),
]

TEXTS = [
    Case(
        "text",
        [
            "",
            " ",
            "a",
            "ünïcödé 日本語 😀",
            'it\'s "quoted" \\ back',
            "line\nline\r\ttab",
            "\x01\x7f",
            "NULL",
            "\\N",
            "e\u0301 \u200b\u202e\ufeff \uffff",
            "x" * 1000000,
            "%s {0} $1 :a",
            "'; DROP TABLE t; --",
        ],
    ),
    Case("character varying", ["", "ä'\\\n", "y" * 10_000]),
    Case("character varying(3)", ["", "äöü"]),
    Case("character(5)", ["x", "", "äöüßé", "a\\'"]),  # psql prints the blanks at the end, the cast to text cuts them
    Case("bpchar", ["x", "y  "]),
    Case('"char"', ["x", "", "é"]),
    Case("name", ["", "a" * 63, "Ünï"]),
    Case("uuid", ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-ffff-ffff-ffffffffffff"]),
    Case("json", ['{"b": 1,  "a": [1.0, 1e400, 123456789012345678901234567890], "a": null}', '"\\u00e9\\n"', "null"]),
    Case(
        "jsonb",
        ['{"b": 1, "a": {"x": 12345678901234567890123456789.000000001}}', '"é\\n"', "null", "1e100", "-0", "[]"],
    ),
    Case("jsonpath", ['$."a b"[*] ? (@ > 1)']),
    Case("xml", ["<a b='1'>é &amp; <!-- c --></a>"], needs="libxml"),
    Case("tsvector", ["a:1A fat:2,4 'it''s':3", ""]),
    Case("tsquery", ["fat & (rat | !cat:*) <-> 'x'", ""]),
    Case("bytea", ["\\x", "\\x00ff5c27", "\\x" + "ab" * 100_000], (BYTES,), whole=True),
    Case("bit(3)", ["101"]),
    Case("bit varying", ["", "1" * 100]),
    Case("boolean", ["t", "f"], (BOOL,), whole=True),
]

CALENDAR = [
    Case(
        "date",
        [
            "2026-11-22",
            "0001-01-01",
            "9999-12-31",
            "0001-12-31 BC",
            "10000-01-01",
            "4713-01-01 BC",
            "5874897-12-31",
            "infinity",
            "-infinity",
            "1970-01-01",
            "1969-12-31",
            "2000-02-29",
            "1582-10-10",
        ],
        (DATE,),
    ),
    Case(
        "timestamp",
        [
            "2026-11-22 12:34:56.789012",
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.999999",
            "0001-12-31 23:59:59.999999 BC",
            "10000-01-01 00:00:00",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
            "294247-01-10 04:00:54.775807",
        ],
        (DATETIME,),
    ),
    Case("timestamp(3)", ["2026-11-22 12:34:56.789", "9999-12-31 23:59:59.999", "infinity"], (DATETIME,)),
    Case(
        "timestamp with time zone",
        [
            "2026-11-22 12:34:56.789012+05:45",
            "0001-01-01 00:00:00+00",
            "9999-12-31 23:59:59.999999+00",
            "0001-01-01 00:00:00+01",
            "9999-12-31 23:59:59.999999-00:00:01",
            "1883-11-18 12:03:58-04:56:02",
            "4713-01-01 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
            "294247-01-10 04:00:54.775807+00",
            "294247-01-10 04:00:54.775808+00",
        ],  # where the engine's own type ends
        (TIMESTAMP,),
    ),
    Case("timestamp(0) with time zone", ["2026-11-22 12:34:57+00", "-infinity"], (TIMESTAMP,)),
    Case("time", ["00:00:00", "23:59:59.999999", "24:00:00", "12:00:00.000001"], (TIME,)),
    Case("time(3)", ["23:59:59.999", "24:00:00"], (TIME,)),
    Case("time with time zone", ["00:00:00+15:59:59", "24:00:00-15:59:59", "12:34:56.789012+05:45"]),
    Case(
        "interval",
        [
            "0",
            "1 year -2 mons 3 days -04:05:06.789",
            "178000000 years",
            "-178000000 years",
            "1 mon",
            "30 days",
            "24:00:00",
            "-00:00:00.000001",
        ],
    ),
    Case("interval", ["infinity", "-infinity"], since=17),
    Case("interval year to month", ["3-2"]),
    Case("interval(0)", ["1 day 00:00:01"]),
]

OTHERS = [
    Case("inet", ["192.168.0.1/24", "::1", "2001:db8::/32"]),
    Case("cidr", ["192.168.0.0/24", "2001:db8::/32"]),
    Case("macaddr", ["08:00:2b:01:02:03"]),
    Case("macaddr8", ["08:00:2b:01:02:03:04:05"]),
    Case("point", ["(1.5,-0)", "(1e300,NaN)", "(Infinity,0.1)"]),
    Case("line", ["{1,2,3}"]),
    Case("lseg", ["[(0,0),(1,0.1)]"]),
    Case("box", ["(1,1),(0,0)"]),
    Case("path", ["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    Case("polygon", ["((0,0),(1,1),(1,0))"]),
    Case("circle", ["<(0,0),0.1>"]),
    Case("pg_lsn", ["0/0", "FFFFFFFF/FFFFFFFF"]),
    Case("pg_snapshot", ["10:20:10,14,15"]),
    Case("txid_snapshot", ["10:20:10,14,15"]),
    Case("xid", ["0", "4294967295"]),
    Case("xid8", ["18446744073709551615"]),
    Case("cid", ["4294967295"]),
    Case("tid", ["(4294967295,65535)"]),
    Case("regclass", ["pg_class", "-", "4294967295"]),
    Case("regproc", ["now", "-"]),
    Case("regprocedure", ["abs(numeric)"]),
    Case("regoper", ["pg_catalog.||/"]),
    Case("regoperator", ["+(integer,integer)"]),
    Case("regtype", ["timestamp with time zone"]),
    Case("regrole", ["pg_monitor"]),
    Case("regnamespace", ["pg_catalog"]),
    Case("regcollation", ['"C"']),
    Case("regconfig", ["english"]),
    Case("regdictionary", ["simple"]),
    Case("refcursor", ["", "a cursor"]),
    Case("aclitem", ["pg_monitor=r/postgres"]),
    Case("int2vector", ["1 2 -3", ""]),
    Case("oidvector", ["1 4294967295"]),
    Case("pg_node_tree", [Sql("(SELECT conbin FROM pg_constraint WHERE conbin IS NOT NULL LIMIT 1)")]),
    Case("pg_ndistinct", [Sql("(SELECT stxdndistinct FROM pg_statistic_ext_data LIMIT 1)")]),
    Case("pg_dependencies", [Sql("(SELECT stxddependencies FROM pg_statistic_ext_data LIMIT 1)")]),
    Case("pg_mcv_list", [Sql("(SELECT stxdmcv FROM pg_statistic_ext_data LIMIT 1)")]),
]

MADE = [
    Case("mood", ["sad", 'it\'s "ok" \\ ünï'], setup=["CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\" \\\\ ünï')"]),
    Case("mood[]", ["{sad,NULL}"]),
    Case(
        "pair",
        ['(1,"a b")', "(,)", '(,"it""s \\\\ ünï")'],
        setup=["CREATE TYPE pair AS (n integer, t text)"],
    ),
    Case("pair[]", ['{"(1,a)",NULL,"(,)"}']),
    Case(
        "moment",
        ['(2026-11-22,"2026-11-22 12:00:00+00","\\\\x00ff","P1D",0.1)'],
        setup=["CREATE TYPE moment AS (d date, t timestamptz, b bytea, i interval, f double precision)"],
    ),
    Case("int4range", ["[1,5)", "empty", "(,)"]),
    Case("int8range", ["[-9223372036854775808,9223372036854775807)"]),
    Case("numrange", ["[0.1,NaN]", "(,1e100)"]),
    Case("tsrange", ['["2026-11-22 00:00:00",infinity]']),
    Case("tstzrange", ['["2026-11-22 00:00:00+00","294276-12-31 00:00:00+00")', "(,)"]),
    Case("daterange", ["[2026-11-22,2026-11-23)", "[-infinity,infinity]"]),
    Case("int4multirange", ["{[1,5),[7,9)}", "{}"], since=14),
    Case("int8multirange", ["{[1,2)}"], since=14),
    Case("nummultirange", ["{[0.1,0.2]}"], since=14),
    Case("tsmultirange", ['{["2026-11-22 00:00:00",infinity)}'], since=14),
    Case("tstzmultirange", ['{["2026-11-22 00:00:00+00",infinity)}'], since=14),
    Case("datemultirange", ["{[2026-11-22,infinity)}"], since=14),
    Case("floats", ["[0.1,0.30000000000000004]"], setup=["CREATE TYPE floats AS RANGE (subtype = double precision)"]),
    Case("integer[]", ["{}", "{1,NULL,-2}", "{{1,2},{3,4}}", "[0:1]={5,6}", "{{{{{{1}}}}}}"]),
    Case("text[]", ['{"",NULL,"NULL","a,b","it\'s \\"q\\" \\\\","ünï\n"}']),
    Case("numeric(10,2)[]", ["{1.10,NaN,NULL}"]),
    Case("timestamp with time zone[]", ['{"2026-11-22 12:00:00+05:45",infinity}']),
    Case("bytea[]", ['{"\\\\x00ff",NULL}']),
    Case("jsonb[]", ['{"{\\"a\\": 1e100}",NULL}']),
    Case("double precision[]", ["{0.1,-0,NaN,5e-324}"]),
    Case("interval[]", ['{"1 year 2 days"}']),
    Case("boolean[]", ["{t,f,NULL}"]),
    Case("character(3)[]", ["{x,NULL}"]),
]

DOMAINS = [
    Case("whole", ["1", "-1"], (INT64, NUMERIC, BIGNUMERIC), whole=True, setup=["CREATE DOMAIN whole AS integer"]),
    Case(
        "price",
        ["1.50", "NaN"],
        (NUMERIC, BIGNUMERIC),
        setup=["CREATE DOMAIN amount AS numeric(12,2)", "CREATE DOMAIN price AS amount CHECK (VALUE > 0)"],
    ),
    Case("day", ["2026-11-22", "infinity"], (DATE,), setup=["CREATE DOMAIN day AS date"]),
    Case("fixed", ["ab"], setup=["CREATE DOMAIN fixed AS character(4)"]),
    Case("bytes", ["\\x00ff"], (BYTES,), whole=True, setup=["CREATE DOMAIN bytes AS bytea"]),
    Case("single", ["0.1"], (FLOAT64,), whole=True, setup=["CREATE DOMAIN single AS real"]),
    Case("prices", ["{1.50,2.50}"], setup=["CREATE DOMAIN prices AS numeric(12,2)[]"]),
    Case("price[]", ["{1.50,NaN}"]),
    Case("named_pair", ["(1,a)"], setup=["CREATE DOMAIN named_pair AS pair"]),
    Case("feeling", ["sad"], setup=["CREATE DOMAIN feeling AS mood"]),
]

EXTENSIONS = [
    Case("hstore", ['"a"=>"1", "b"=>NULL, "it\'s"=>"\\"q\\" \\\\"', ""], needs="hstore"),
    Case("citext", ["MiXeD", "ünï"], needs="citext"),
    Case("ltree", ["a.b.c"], needs="ltree"),
    Case("cube", ["(1, 0.1)"], needs="cube"),
    Case("email", ["A@b.c"], needs="citext", setup=["CREATE DOMAIN email AS citext"]),
    # Types of another schema with a built-in's name are not the built-in.
    Case(
        "public.int4",
        ["42"],
        setup=[
            "CREATE TYPE public.int4",
            "CREATE FUNCTION i(cstring) RETURNS public.int4 LANGUAGE internal IMMUTABLE STRICT AS 'int4in'",
            "CREATE FUNCTION o(public.int4) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out'",
            "CREATE TYPE public.int4 (INPUT = i, OUTPUT = o, LIKE = pg_catalog.int4)",
        ],
    ),
    Case("public.bool", ["maybe"], setup=["CREATE TYPE public.bool AS ENUM ('maybe')"]),
]

CASES = [*NUMBERS, *TEXTS, *CALENDAR, *OTHERS, *MADE, *DOMAINS, *EXTENSIONS]

WITHOUT_VALUES = {
    "gtsvector": "exists only inside GiST indexes",
    "pg_brin_bloom_summary": "exists only inside BRIN indexes",
    "pg_brin_minmax_multi_summary": "exists only inside BRIN indexes",
}
"""Types of which no table can have a value."""

SETUP = [
    "CREATE TABLE sampled (a integer CHECK (a >= 0), b integer)",
    "INSERT INTO sampled SELECT n % 3, n % 3 FROM generate_series(1, 500) AS n",
    "CREATE STATISTICS sampled_statistics (ndistinct, dependencies, mcv) ON a, b FROM sampled",
    "ANALYZE sampled",
]
"""What the values of some internal types come from."""
