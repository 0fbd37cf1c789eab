"""Charts as inline SVG whose colours are the page's: they follow its light or dark scheme, and ask for nothing."""

import pygal
from pygal.etree import etree
from pygal.style import Style

from services.core.batch import Batch
from services.core.state.state import Run
from services.transformer.report.facts import Share

_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--text)",
    foreground_strong="var(--text)",
    foreground_subtle="var(--line)",
    colors=("var(--first)", "var(--second)", "var(--third)", "var(--fourth)"),
    font_family="inherit",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    value_font_size=12,
    opacity="1",
    opacity_hover="1",
    transition="none",
)
_MOST = 24
"""Bars side by side that a phone can still show."""


def _settings(height: int) -> dict[str, object]:
    return {
        "style": _STYLE,
        "js": [],  # else the page would ask for a script
        "disable_xml_declaration": True,
        "width": 720,
        "height": height,
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 2,
        "show_legend": True,
        "margin": 8,
        "margin_bottom": 24,
        "x_label_rotation": 40,
        "value_formatter": lambda value: f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}",
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


def rows_per_run(runs: list[Run], batches: list[Batch]) -> str:
    """Rows extracted, loaded and merged, per run of the transformer that merged something."""
    by_id = {batch.id: batch for batch in batches}
    shown = [run for run in runs if run.details.get("merges")][-_MOST:]
    chart = pygal.Bar(**_settings(320))
    chart.x_labels = [f"{run.started_at:%d %b %H:%M}" for run in shown]
    merged_ids = [[id_ for merge in run.details["merges"] for id_ in merge["batches"]] for run in shown]
    chart.add("extracted", [sum(by_id[i].rows for i in ids if i in by_id) for ids in merged_ids])
    chart.add("loaded", [sum(merge["rows"] for merge in run.details["merges"]) for run in shown])
    chart.add("changed in bronze", [sum(merge["rows_merged"] or 0 for merge in run.details["merges"]) for run in shown])
    return _svg(chart, "Rows extracted, loaded and changed in bronze, per run")


def seconds_per_run(runs: list[Run]) -> str:
    """Seconds of bronze and of silver and gold with their tests, per run."""
    shown = [run for run in runs if run.details.get("seconds")][-_MOST:]
    chart = pygal.StackedBar(**_settings(300))
    chart.x_labels = [f"{run.started_at:%d %b %H:%M}" for run in shown]
    chart.add("bronze", [run.details["seconds"].get("bronze", 0) for run in shown])
    chart.add("silver, gold, tests", [run.details["seconds"].get("downstream", 0) for run in shown])
    return _svg(chart, "Seconds per run, by stage")


def shares(title: str, found: list[Share]) -> str:
    """Groups of a whole as bars, the greatest first."""
    chart = pygal.HorizontalBar(
        **{**_settings(90 + 28 * len(found)), "show_legend": False, "print_values": True, "x_label_rotation": 0}
    )
    chart.x_labels = [share.name for share in reversed(found)]
    chart.add(title, [share.count for share in reversed(found)])
    return _svg(chart, title)


def model_seconds(nodes: list[dict[str, object]]) -> str:
    """Seconds per model of the newest run, the slowest first."""
    models = [node for node in nodes if node["resource_type"] == "model"]
    models = sorted(models, key=lambda node: float(str(node["seconds"])), reverse=True)[:12]
    chart = pygal.HorizontalBar(
        **{**_settings(90 + 28 * len(models)), "show_legend": False, "print_values": True, "x_label_rotation": 0}
    )
    chart.value_formatter = lambda value: f"{value:.2f} s"
    chart.x_labels = [str(node["name"]) for node in reversed(models)]
    chart.add("seconds", [float(str(node["seconds"])) for node in reversed(models)])
    return _svg(chart, "Seconds per model")
