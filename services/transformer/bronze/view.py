"""The view that people read as bronze: what it selects, and its fingerprint. Pure functions.

A row's newest version is in the base, in the delta, or in both. Most keys of the base are not in the delta, and pass
through. For the others, the versions of both are compared, as the MERGE compares them, so that the view shows at every
moment what the MERGE would make. A filter on the key reaches base and delta, and prunes the base's clusters; a column
that nobody asks for is not read; a table that is named twice in a query is billed once.
"""

import hashlib
from collections.abc import Mapping

from services.core.tables import Table
from services.transformer.bronze.batch_rows import ADDED_COLUMNS, quoted, quoted_table
from services.transformer.bronze.tables import BASE, DELTA

_LABEL_LETTERS = 32


def bronze_view(table: Table, columns: Mapping[str, str], name: str, *, delta: bool) -> str:
    """The SELECT of a bronze view.

    Args:
        table: the declared table.
        columns: bronze's, without those that it adds, in order.
        name: project.dataset.model.
        delta: whether the table has a delta. Without one, bronze is its base.
    """
    names = ", ".join([*map(quoted, columns), *ADDED_COLUMNS])
    base, appended = quoted_table(f"{name}{BASE}"), quoted_table(f"{name}{DELTA}")
    if not delta:
        return f"select {names} from {base}"  # noqa: S608 - names are checked
    same = " and ".join(f"`delta row`.{quoted(key)} = `base row`.{quoted(key)}" for key in table.key)
    in_delta = f"exists (select 1 from {appended} as `delta row` where {same})"  # noqa: S608
    key = ", ".join(f"`known row`.{quoted(each)}" for each in table.key)
    values = ", ".join(f"`known row`.{quoted(each)}" for each in columns)
    return (
        f"select {names} from {base} as `base row` where not {in_delta}\n"  # noqa: S608
        f"union all\n"
        f"select {names} from (\n"
        f"  select {names} from {base} as `base row` where {in_delta}\n"
        f"  union all\n"
        f"  select {names} from {appended}\n"
        f") as `known row`\n"
        f"qualify row_number() over (\n"
        f"  partition by {key}\n"
        f"  order by `known row`._extracted_at desc, `known row`._batch_id desc,\n"
        f"    to_json_string(struct({values})) desc, `known row`._loaded_at\n"
        f") = 1"
    )


def definition(view: str, description: str = "") -> str:
    """Fingerprint of a view, as a label's value.

    Args:
        view: its SELECT.
        description: whatever else it is made with, as text.
    """
    return hashlib.sha256(f"{view}\n{description}".encode()).hexdigest()[:_LABEL_LETTERS]
