"""The demo: two cycles of the whole pipeline on a stack of its own, checked, and told to a person."""

from collections import Counter
from datetime import datetime

from rich.console import Console
from rich.panel import Panel
from rich.table import Table as RichTable

from local.comparison import Comparison
from local.cycle import Client, Cycle, CycleFailed, audit, run_cycle
from local.sample.changes import SourceChanges, changes
from local.sample.seeding import seed
from local.sample.spec import SampleSpec
from local.source import connect
from local.stack.options import StackOptions
from local.stack.stack import down, running
from local.stack.steps import OnProgress
from services.core.state.quality import Audit

GOLD = ("company_payment_summary", "payment_analytics_detailed")


class DemoFailed(CycleFailed):
    """Something in the demo is not as it must be."""


def run_demo(options: StackOptions, spec: SampleSpec, on_progress: OnProgress) -> None:
    """Run the demo; the summary goes to stdout and, as a page, to ``demo-report.html`` in the stack's home.

    Raises:
        StackError: the stack did not start, a stage failed, or a check did not hold.
    """
    console = Console(record=True, width=None if Console().is_terminal else 130)
    say = Console(stderr=True).print
    # Data, logs and report of this demo stay to be looked at; those of the one before go.
    down(options.home, remove_data=True)
    say(f"[bold]1/6[/] starting the stack ({options.profile})")
    with running(options, on_progress) as stack:
        client = Client.of(stack)
        say("[bold]2/6[/] filling PostgreSQL")
        with connect(stack.postgres) as connection:
            rows = seed(connection, spec)
        say("[bold]3/6[/] first cycle: everything")
        first = run_cycle(client)
        compared = _checked(client, first)
        say("[bold]4/6[/] the business goes on: new installments, payments, a company that changes status")
        with connect(stack.postgres) as connection:
            changed = changes(connection, spec)
        say("[bold]5/6[/] second cycle: only what changed")
        second = run_cycle(client)
        compared = _checked(client, second)
        _check_only_changes(second, compared, changed)
        say("[bold]6/6[/] the audit: all tests on everything")
        found = audit(client)
        _check_audit(found)
        _show_cycle(console, "First cycle: everything", first)
        _show_changes(console, changed)
        _show_cycle(console, "Second cycle: only what changed", second)
        _show_layers(console, client, rows, compared)
        _show_audit(console, found)
        client.state.store.close()
    report = options.home / "demo-report.html"
    console.print(
        Panel.fit(
            f"[bold green]Every step did its work.[/]\nreport  {report}\nlogs    {options.home / 'logs'}\n\n"
            "Next: credix local up && credix local seed && credix extract && credix status",
            title="demo",
        )
    )
    console.save_html(str(report))


def _checked(client: Client, cycle: Cycle) -> list[Comparison]:
    """Check what must hold at rest after every cycle.

    Raises:
        DemoFailed: says what does not.
    """
    compared = client.compare()
    problems = [str(comparison) for comparison in compared if not comparison.equal]
    problems += [f"{t.table}: extraction {t.outcome}" for t in cycle.tables if t.outcome != "landed"]
    problems += [
        f"{t.table}: extracted {t.extracted}, loaded {t.loaded}" for t in cycle.tables if t.extracted != t.loaded
    ]
    problems += [f"{t.table}: no watermark" for t in cycle.tables if t.watermark_after is None]
    problems += [f"hashed table {name} was not dropped" for name in client.hashed_tables()]
    problems += [f"{name} is in failed/" for name in client.failed()]
    problems += [f"run {run.id}: {problem}" for run in cycle.runs for problem in run.details["problems"]]
    if cycle.tests.get("fail") or cycle.tests.get("error"):
        problems.append(f"dbt tests: {cycle.tests}")
    if problems:
        raise DemoFailed("; ".join(problems))
    return compared


def _check_only_changes(cycle: Cycle, compared: list[Comparison], changed: SourceChanges) -> None:
    """The second cycle moved the changes, and not the table."""
    least = {
        "cnpj_ws": len(changed.companies.inserted) + len(changed.companies.updated),
        "installments": len(changed.installments.inserted) + len(changed.installments.updated),
    }
    rows = {comparison.table: comparison.source_rows for comparison in compared}
    for line in cycle.tables:
        if line.table in least and not least[line.table] <= line.extracted < rows[line.table] / 2:
            raise DemoFailed(
                f"{line.table}: {line.extracted} rows were extracted; {least[line.table]} of {rows[line.table]} changed"
            )


def _check_audit(found: Audit) -> None:
    """Sample data makes tests warn, and none fail."""
    if bad := [
        f"{test.name}: {test.status} {test.message}" for test in found.tests if test.status not in ("pass", "warn")
    ]:
        raise DemoFailed(f"audit {found.id}: {'; '.join(bad)}")


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "–"


def _show_cycle(console: Console, title: str, cycle: Cycle) -> None:
    table = RichTable(title=f"{title} ({cycle.seconds:.1f} s)", title_justify="left", title_style="bold")
    table.add_column("table", style="cyan")
    for heading in ("extracted", "loaded", "merged"):
        table.add_column(heading, justify="right")
    table.add_column("watermark before")
    table.add_column("watermark after")
    for heading in ("extract s", "load s", "merge s"):
        table.add_column(heading, justify="right")
    for line in cycle.tables:
        table.add_row(
            line.table,
            f"{line.extracted:,}",
            f"{line.loaded:,}",
            f"{line.merged:,}" if line.merged is not None else "–",
            _moment(line.watermark_before),
            _moment(line.watermark_after),
            f"{line.extract_seconds:.1f}",
            f"{line.load_seconds:.1f}",
            f"{line.merge_seconds:.1f}",
        )
    tests = ", ".join(f"{count} {status}" for status, count in cycle.tests.items() if count)
    table.caption = f"silver and gold {cycle.downstream_seconds:.1f} s; tests: {tests or 'none'}"
    table.caption_justify = "left"
    console.print(table)


def _show_changes(console: Console, changed: SourceChanges) -> None:
    for each in (changed.companies, changed.installments):
        console.print(f"  {each.table}: {len(each.inserted)} new, {len(each.updated)} changed")


def _show_layers(console: Console, client: Client, seeded: dict[str, int], compared: list[Comparison]) -> None:
    table = RichTable(title="What is there now", title_justify="left", title_style="bold")
    table.add_column("what", style="cyan")
    table.add_column("rows", justify="right")
    table.add_column("")
    for name, count in seeded.items():
        table.add_row(f"source {name}", f"{count:,}", "[dim]when seeded[/]")
    for comparison in compared:
        table.add_row(f"bronze {comparison.table}", f"{comparison.bronze_rows:,}", "[green]equal to the source[/]")
    for name in GOLD:
        table.add_row(f"gold {name}", f"{client.count(client.settings.dataset_gold, name):,}", "")
    console.print(table)


def _show_audit(console: Console, found: Audit) -> None:
    counts = Counter(test.status for test in found.tests)
    tests = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    console.print(f"The audit ({found.seconds:.1f} s): {tests}. Companies by payment tier:")
    for group in found.figures.get("tiers", []):
        console.print(f"  {group.name}: {group.count:,}")
