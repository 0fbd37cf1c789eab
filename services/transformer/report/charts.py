"""Charts as inline SVG whose colours are the page's: they follow its light or dark scheme, and ask for nothing.

A chart is as wide as a phone's card, so that its letters are as large there as the page's; where there is room, it
grows. A chart of nothing is an empty text, and the page leaves it out.
"""

from collections.abc import Callable, Mapping

import pygal
from pygal.etree import etree
from pygal.formatters import HumanReadable
from pygal.style import Style

from services.core.batch import Batch
from services.core.cost.run_cost import CostLine, grouped
from services.core.state.quality import Group
from services.core.state.state import Run
from services.core.words import size

_WIDTH = 400
_LETTER = 13
_MOST = 24
"""Bars side by side that a phone can still show."""
_LETTER_WIDTH = 0.6 * _LETTER
"""On average, as pygal reckons."""
_CAPITAL_WIDER = 0.1 * _LETTER
"""What a capital is wider than that."""

_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--text)",
    foreground_strong="var(--text)",
    foreground_subtle="var(--line)",
    value_colors=("var(--text)",),
    colors=("var(--first)", "var(--second)", "var(--third)", "var(--fourth)"),
    font_family="inherit",
    label_font_size=_LETTER,
    major_label_font_size=_LETTER,
    legend_font_size=_LETTER,
    value_font_size=_LETTER,
    opacity="1",
    opacity_hover="1",
    transition="none",
)
_COMMON: dict[str, object] = {
    "style": _STYLE,
    "js": [],  # else the page would ask for a script
    "disable_xml_declaration": True,
    "width": _WIDTH,
    "margin": 4,
}


def _svg(chart: pygal.Graph, title: str) -> str:
    """The chart as SVG with a name for who cannot see it, and without the script that would make it interactive."""
    root = chart.render_tree()
    for parent in root.iter():
        for child in list(parent):
            if str(child.tag).endswith("script"):
                parent.remove(child)
    root.set("role", "img")
    root.set("aria-label", title)
    return str(etree.tostring(root, encoding="unicode"))


def _over_time(
    kind: type[pygal.Graph],
    runs: list[Run],
    series: dict[str, list[float]],
    title: str,
    written: Callable[[float], str] = HumanReadable(),  # noqa: B008 - it keeps nothing
) -> str:
    """Bars per run, oldest first, one colour per series."""
    if not runs:
        return ""
    chart = kind(
        **_COMMON, height=280, margin_left=20, margin_right=44, margin_bottom=26, legend_at_bottom=True,
        legend_at_bottom_columns=2, truncate_legend=-1, truncate_label=-1, x_labels_major_count=3,
        show_minor_x_labels=False, value_formatter=written,
    )  # fmt: skip
    chart.x_labels = [f"{run.started_at:%d %b %H:%M}" for run in runs]
    for name, values in series.items():
        chart.add(name, values)
    return _svg(chart, title)


def _ranked(values: list[tuple[str, float, str]], title: str) -> str:
    """Bars of (name, value, value as it is written), the first on top. The whole of it is told to who cannot see it."""
    if not values:
        return ""
    room = 12 + _LETTER_WIDTH * max(len(written) for _, _, written in values)
    capitals = max(sum(letter.isupper() for letter in name) for name, _, _ in values) * _CAPITAL_WIDER
    longest = int((0.75 * _WIDTH - room - capitals) / _LETTER_WIDTH)  # a quarter at least is for the bars
    chart = pygal.HorizontalBar(
        **_COMMON, height=24 + 30 * len(values), margin_left=4 + capitals, margin_right=room, show_legend=False,
        show_x_labels=False, show_y_guides=False, print_values=True, print_values_position="top",
    )  # fmt: skip
    names = [name if len(name) <= longest else f"{name[: longest - 1]}…" for name, _, _ in values]
    chart.x_labels = names[::-1]
    chart.add(title, [{"value": value, "formatter": lambda _, w=written: w} for _, value, written in reversed(values)])
    return _svg(chart, f"{title}: {', '.join(f'{name} {written}' for name, _, written in values)}")


def rows_per_run(runs: list[Run], batches: list[Batch]) -> str:
    """Rows extracted, loaded and merged, per run of the transformer that merged something."""
    by_id = {batch.id: batch for batch in batches}
    shown = [run for run in runs if run.details.get("merges")][-_MOST:]
    merged_ids = [[id_ for merge in run.details["merges"] for id_ in merge["batches"]] for run in shown]
    series: dict[str, list[float]] = {
        "extracted": [sum(by_id[i].rows for i in ids if i in by_id) for ids in merged_ids],
        "loaded": [sum(merge["rows"] for merge in run.details["merges"]) for run in shown],
        "changed in bronze": [sum(merge["rows_merged"] or 0 for merge in run.details["merges"]) for run in shown],
    }
    return _over_time(pygal.Bar, shown, series, "Rows extracted, loaded and changed in bronze, per run")


def seconds_per_run(runs: list[Run]) -> str:
    """Seconds of bronze with its tests, and of silver and gold, per run."""
    shown = [run for run in runs if run.details.get("seconds")][-_MOST:]
    series: dict[str, list[float]] = {
        "bronze and tests": [run.details["seconds"].get("bronze", 0) for run in shown],
        "silver, gold": [run.details["seconds"].get("downstream", 0) for run in shown],
    }
    return _over_time(pygal.StackedBar, shown, series, "Seconds per run, by stage")


def billed_per_run(runs: list[Run]) -> str:
    """Bytes billed by stage, per run whose cost is known."""
    shown = [run for run in runs if run.cost is not None and run.cost.lines][-_MOST:]
    lines = [grouped(run.cost.lines, lambda line: line.stage) for run in shown if run.cost]
    nothing = CostLine(stage="", jobs=0)
    series: dict[str, list[float]] = {
        words: [sum(stages.get(stage, nothing).billed for stage in of) for stages in lines]
        for words, of in {
            "bronze": ("bronze", "hold"),
            "tests": ("tests",),
            "silver, gold": ("downstream",),
        }.items()
    }
    return _over_time(pygal.StackedBar, shown, series, "Bytes billed per run, by stage", size)


def billed(title: str, costs: Mapping[str, CostLine]) -> str:
    """Bytes billed by what they were for, the dearest first; what billed nothing is left out."""
    dearest = [(name, float(line.billed), size(line.billed)) for name, line in costs.items() if line.billed]
    return _ranked(dearest[:12], title)


def groups(title: str, found: list[Group]) -> str:
    """Groups of a whole as bars, the greatest first."""
    return _ranked([(group.name, group.count, f"{group.count:,}") for group in found], title)


def model_seconds(nodes: list[dict[str, object]]) -> str:
    """Seconds per model of the newest run, the slowest first."""
    seconds = [(str(node["name"]), float(str(node["seconds"]))) for node in nodes if node["resource_type"] == "model"]
    slowest = sorted(seconds, key=lambda model: model[1], reverse=True)[:12]
    return _ranked([(name, value, f"{value:,.2f} s") for name, value in slowest], "Seconds per model")
