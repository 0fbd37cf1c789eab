"""Names in statements: quoted paths taken apart, texts and comments left alone."""

import re

_TEXTS_AND_COMMENTS = re.compile(
    r"""((?:\b[rRbB]{1,2})?(?:\"\"\".*?\"\"\"|\'\'\'.*?\'\'\')"""
    r"""|(?:\b[rRbB]{1,2})?(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
    r"""|/\*.*?\*/|--[^\n]*|\#[^\n]*)""",
    re.DOTALL,
)
_QUOTED_PATH = re.compile(r"`([^`\s]+\.[^`\s]+)`")


def pieces(sql: str) -> list[tuple[bool, str]]:
    """A statement in pieces, each with whether it is a text or a comment; together they are the statement."""
    parts = _TEXTS_AND_COMMENTS.split(sql)
    return [(place % 2 == 1, part) for place, part in enumerate(parts) if part]


def with_paths_apart(sql: str) -> str:
    """Every `a.b.c` as `a`.`b`.`c`: BigQuery reads it so, the analyzer as one name with dots in it."""
    return "".join(
        part if opaque else _QUOTED_PATH.sub(lambda path: ".".join(f"`{name}`" for name in path[1].split(".")), part)
        for opaque, part in pieces(sql)
    )


def without_comments(sql: str) -> str:
    """The statement without its comments."""
    return "".join(part for opaque, part in pieces(sql) if not (opaque and part.startswith(("/*", "--", "#"))))
