"""`runs`: list, show, compare and export the stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lab.bench import comparison, export
from lab.bench.analysis import Analysis
from lab.bench.run_files import Listing, find_run, list_runs
from lab.bench.schema_text import schema_markdown
from lab.bench.tables import fit_rows, run_document, statistics_rows
from lab.cli.output import console, errors, plain_errors, print_json
from lab.cli.render import Json
from lab.cli.run_tables import print_run
from lab.errors import LabError

runs_app = typer.Typer(help="List, show, compare and export stored benchmark runs.", no_args_is_help=True)
RunName = Annotated[str, typer.Argument(help="A run: its id, the beginning of it, the path of a file, or latest.")]
Folder = Annotated[
    Path | None, typer.Option("--runs", help="Folder with the runs (default: LAB_RUNS_DIR, or results/runs).", file_okay=False)
]


def _say_skipped(listing: Listing) -> None:
    for item in listing.skipped:
        errors.print(f"Skipped {item.path.name}: {item.reason}", markup=False, style="yellow", soft_wrap=True)


@runs_app.command("list")
def runs_list(folder: Folder = None, as_json: Json = False) -> None:
    """List the stored runs, the newest first; files that are damaged are named and skipped."""
    with plain_errors(as_json):
        listing = list_runs(folder)
        table = Table("run", "state", "card", "weights", "configurations", "texts", "samples", "invalid", header_style="bold")
        table.columns[0].overflow = "fold"
        rows: list[dict[str, Any]] = []
        for head in listing.runs:
            shown = ", ".join(head.configs[:4]) + (f" and {len(head.configs) - 4} more" if len(head.configs) > 4 else "")
            table.add_row(
                *map(escape, (head.id, head.state, head.card, head.weights, shown, ", ".join(head.sets))),
                str(head.samples),
                str(head.invalid),
            )
            rows.append(
                {
                    "run": head.id,
                    "path": str(head.path),
                    "created": head.created.isoformat(),
                    "state": head.state,
                    "machine": head.machine,
                    "card": head.card,
                    "weights": head.weights,
                    "configs": head.configs,
                    "texts": head.sets,
                    "samples": head.samples,
                    "invalid": head.invalid,
                }
            )
        console.print(table)
        _say_skipped(listing)
        if as_json:
            print_json({"runs": rows, "skipped": [{"path": str(item.path), "reason": item.reason} for item in listing.skipped]})


@runs_app.command("show")
def runs_show(
    run: RunName = "latest",
    reference: Annotated[
        str | None, typer.Option("--reference", help="Compare with this configuration instead of the run's first.")
    ] = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Show what a run says: real-time factors, pairs with verdicts, first calls, what was left out, and why."""
    with plain_errors(as_json):
        found = find_run(run, folder)
        labels = [arm.label for arm in found.arms]
        if reference is not None and reference not in labels:
            raise LabError(f"{reference[:60]!r} is not in this run. There are {', '.join(labels)}.")
        analysis = print_run(found, reference, whole=True)
        if as_json:
            fits = [
                {
                    **row,
                    "fixed ms": [row["fixed ms"].value, row["fixed ms"].low, row["fixed ms"].high],
                    "ms per second": [row["ms per second"].value, row["ms per second"].low, row["ms per second"].high],
                }
                for row in fit_rows(analysis)
            ]
            document = {
                "run": found.id,
                **run_document(analysis, reference),
                "statistics": statistics_rows(analysis),
                "fits": fits,
                "devices": [device.model_dump() for device in found.devices],
            }
            print_json(document)


@runs_app.command("compare")
def runs_compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more; the first is what the others are compared with.")],
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Put runs side by side: times of the configurations they share, and what differs in their environments.

    Runs are not measured in turns, so the ratios say what was seen, with whatever else has changed in it; they are no verdict.
    """
    with plain_errors(as_json):
        if len(runs) < 2:
            raise LabError("Name two runs at least.")
        found = [find_run(name, folder) for name in runs]
        result = comparison.compare_runs([Analysis(run) for run in found])
        table = Table("configuration", "texts", *(escape(run.id) for run in found), header_style="bold")
        for row in result.rows:
            cells = [
                ""
                if cell is None
                else f"{cell.median_ms:.1f} ms"
                + (
                    ""
                    if cell.ratio is None
                    else f", {cell.ratio.value:.3f}"
                    + ("" if cell.ratio.low is None else f" ({cell.ratio.low:.3f} to {cell.ratio.high:.3f})")
                )
                for cell in row.cells
            ]
            table.add_row(escape(row.config), row.texts, *cells)
        console.print(table)
        differ = Table("environment", *(escape(run.id) for run in found), header_style="bold")
        for difference in result.differences:
            differ.add_row(difference.name, *(escape(value or "-") for value in difference.values))
        if result.differences:
            console.print(differ)
        else:
            console.print("The environments are the same.")
        if as_json:
            print_json(comparison.document(result))


@runs_app.command("export")
def runs_export(
    out: Annotated[Path, typer.Argument(help="The file to write: .csv or .parquet.", dir_okay=False)],
    runs: Annotated[list[str] | None, typer.Argument(help="The runs; default: all that are stored.")] = None,
    folder: Folder = None,
    as_json: Json = False,
) -> None:
    """Write the samples of runs as one table, a row for each sample, warm-ups and invalid ones included and marked."""
    with plain_errors(as_json):
        listing = list_runs(folder)
        _say_skipped(listing)
        found = [find_run(name, folder) for name in runs] if runs else [find_run(str(head.path)) for head in listing.runs]
        rows = export.write_samples(found, out)
        console.print(f"Wrote {rows} samples of {len(found)} runs to {out}", markup=False, soft_wrap=True)
        if as_json:
            print_json({"path": str(out), "rows": rows, "runs": [run.id for run in found]})


@runs_app.command("schema")
def runs_schema() -> None:
    """Print what stands in a run file, field by field, as Markdown."""
    typer.echo(schema_markdown(), nl=False)
