r"""String literals mean what BigQuery's lexical rules say.

bqemulator leaves ``\u00e3``, ``\x41`` and octal escapes as they are, takes ``\/`` for a backslash and a slash, and
looks for numbers and types in what it takes for the text between strings: an apostrophe in a comment turns that
around. Now every literal (quoted once or three times, with ``r`` or ``b`` before it) is read by BigQuery's rules
(https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#string_and_bytes_literals) before anything else
looks at the statement, and written as one plain form. Comments go; an illegal escape is refused (400).
"""

import functools
import re
from typing import Any

from bqemulator.domain.errors import InvalidQueryError
from bqemulator.jobs import executor

from local.warehouse.patches.replace import replace

_execute = executor.execute_query_job

_TOKENS = re.compile(
    r"""
    (?P<comment> --[^\n]* | \#[^\n]* | /\*.*?\*/ )
    | (?P<name> `(?:\\.|[^`\\])*` )
    | (?P<literal> (?P<prefix> [rR][bB]? | [bB][rR]? )?
        (?: '''(?P<a> (?:\\.|[^\\])*? )''' | \"\"\"(?P<b> (?:\\.|[^\\])*? )\"\"\"
          | '(?P<c> (?:\\.|[^'\\\n])* )' | "(?P<d> (?:\\.|[^"\\\n])* )" ) )
    | (?P<word> [A-Za-z0-9_@]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|(?P<octal>[0-3][0-7]{2})|[xX](?P<byte>[0-9a-fA-F]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<illegal>.|$))",
    re.DOTALL,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_WRITTEN = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r"})
_LAST_CHARACTER = 0x10FFFF


def apply() -> None:
    """Let every query be read with plain literals; the job still shows the statement as it was sent."""
    replace(executor, "execute_query_job", _with_plain_literals)


async def _with_plain_literals(project_id: str, job_id: str, bq_sql: str, *args: Any, **kwargs: Any) -> Any:
    job = await _execute(project_id, job_id, plain_literals(bq_sql), *args, **kwargs)
    sent = dict(job.configuration)
    sent["query"] = {**sent.get("query", {}), "query": bq_sql}
    return job.model_copy(update={"configuration": sent})


@functools.lru_cache(256)
def plain_literals(sql: str) -> str:
    """Return the statement with its literals in single quotes, without comments.

    Raises:
        InvalidQueryError: an escape that BigQuery refuses, or a character that the local warehouse cannot hold.
    """
    return _TOKENS.sub(lambda token: _plain(token, sql), sql)


def _plain(token: re.Match[str], sql: str) -> str:
    if token["comment"] is not None:
        return " "
    if token["literal"] is None:
        return token[0]
    if sql[token.end() : token.end() + 1] in ("'", '"') and token["literal"]:
        raise InvalidQueryError(f"Syntax error: Unexpected string literal {_place(sql, token.end())}")
    body = next(token[quoted] for quoted in "abcd" if token[quoted] is not None)
    prefix = (token["prefix"] or "").lower()
    if "b" in prefix:
        content = body.encode() if "r" in prefix else _bytes(body, sql, token.start("literal"))
        return "b'" + "".join(f"\\x{byte:02x}" for byte in content) + "'"
    text = body if "r" in prefix else _ESCAPES.sub(lambda escape: _character(escape, sql, token), body)
    if "\0" in text:
        raise InvalidQueryError("The local warehouse cannot read a string literal with the character U+0000.")
    return "'" + text.translate(_WRITTEN) + "'"


def _character(escape: re.Match[str], sql: str, token: re.Match[str]) -> str:
    if escape["plain"] is not None:
        return _PLAIN.get(escape["plain"], escape["plain"])
    if escape["illegal"] is not None:
        raise _illegal(escape[0], sql, token.start("literal"))
    base = 8 if escape["octal"] else 16
    number = int(escape["octal"] or escape["byte"] or escape["short"] or escape["long"], base)
    if 0xD800 <= number <= 0xDFFF or number > _LAST_CHARACTER:
        raise _illegal(f"Unicode value {escape[0]} is invalid", sql, token.start("literal"))
    return chr(number)


def _bytes(body: str, sql: str, start: int) -> bytes:
    def byte(escape: re.Match[str]) -> str:
        if escape["plain"] is not None:
            return _PLAIN.get(escape["plain"], escape["plain"])
        digits = escape["octal"] or escape["byte"]
        if digits is None:
            raise _illegal(escape[0], sql, start)
        return chr(0xDC00 + number) if (number := int(digits, 8 if escape["octal"] else 16)) > 127 else chr(number)

    return _ESCAPES.sub(byte, body).encode(errors="surrogateescape")


def _illegal(what: str, sql: str, start: int) -> InvalidQueryError:
    return InvalidQueryError(f"Syntax error: Illegal escape sequence: {what} {_place(sql, start)}")


def _place(sql: str, start: int) -> str:
    return f"[at {sql.count(chr(10), 0, start) + 1}:{start - sql.rfind(chr(10), 0, start)}]"
