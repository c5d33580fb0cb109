"""How the commands print runs, pairs and gates."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from lab.bench.analysis import Analysis, Pair
from lab.bench.claims import remark
from lab.bench.gate import GateResult
from lab.bench.ratios import Verdict
from lab.bench.record import Run
from lab.bench.statistics import PERCENTILES
from lab.bench.tables import AA_FAILED, estimate_words, fit_rows, ratio_words, resolution_words, verdict_words
from lab.cli.output import console

_COLOURS: dict[Verdict, str] = {"faster": "green", "slower": "red", "equivalent": "cyan", "undecided": "yellow"}


def pair_table(analysis: Analysis, reference: str | None = None) -> Table:
    """Every pair, the A/A arm last; with several text sets those that have an interval below the figure for all."""
    table = Table("a", "against b", "texts", "time of a / time of b (95 %)", "a is", header_style="bold")
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    pairs = analysis.pairs(reference)
    aa = analysis.aa()
    for pair in [*pairs, *([aa] if aa else [])]:
        per_round = len(analysis.sets)
        _add(table, pair, per_round)
        if per_round > 1:
            for texts in analysis.sets:
                part = analysis.pair(pair.a, pair.b, texts)
                if part and part.ratio.high < math.inf:
                    _add(table, part, 1, indent="  ")
    return table


def _add(table: Table, pair: Pair, per_round: int, indent: str = "") -> None:
    colour = _COLOURS[pair.ratio.verdict]
    names = ("", "") if indent else (escape(pair.a), escape(pair.b))
    said = verdict_words(pair.ratio, per_round)
    table.add_row(*names, indent + pair.texts, ratio_words(pair.ratio), f"[{colour}]{said}[/]")


def statistics_table(analysis: Analysis) -> Table:
    """RTF of every arm: mean and median with intervals, spread, percentiles."""
    table = Table("configuration", "texts", "n", "mean RTF (95 %)", "median", "min", "max", "SD", "CV", header_style="bold")
    for q in PERCENTILES:
        table.add_column(f"p{q}", justify="right")
    for row in [row for texts in analysis.sets for row in analysis.described(texts)]:  # lengths have other RTFs: their spread is no noise
        rtf = row.rtf
        table.add_row(
            escape(row.label),
            row.texts,
            str(rtf.n),
            estimate_words(rtf.mean),
            f"{rtf.median.value:.4f}",
            f"{rtf.least:.4f}",
            f"{rtf.most:.4f}",
            f"{rtf.deviation:.4f}",
            f"{rtf.variation.value:.1%}",
            *(f"{rtf.percentiles[q].value:.4f}" for q in PERCENTILES),
        )
    return table


def _fit_table(analysis: Analysis) -> Table | None:
    rows = fit_rows(analysis)
    if not rows:
        return None
    table = Table("configuration", "fixed cost, ms (95 %)", "ms per second of audio (95 %)", "R²", header_style="bold")
    for row in rows:
        table.add_row(
            escape(row["configuration"]),
            estimate_words(row["fixed ms"], ".1f"),
            estimate_words(row["ms per second"], ".2f"),
            f"{row['R²']:.3f}",
        )
    return table


def _first_call_table(analysis: Analysis) -> Table:
    table = Table("configuration", "start, s", "first utterance, ms", "compiling, ms", "the same when warm, ms", header_style="bold")
    for row in analysis.first_calls():
        start = "" if row.start_s is None else f"{row.start_s:.1f}" + (f" ({row.together} at once)" if row.together > 1 else "")
        table.add_row(
            escape(row.label),
            start,
            "" if row.first_ms is None else f"{row.first_ms:.0f}",
            f"{row.compile_ms:.0f}" if row.compile_ms else "",
            "" if row.warm_ms is None else f"{row.warm_ms:.0f}",
        )
    return table


def print_run(run: Run, reference: str | None = None, *, whole: bool = False) -> Analysis:
    """Print what a run says; `whole` adds first calls and the environment."""
    analysis = Analysis(run)
    ended = "" if run.state == "complete" else f", interrupted: {run.reason}"
    console.print(f"{run.id}: {run.weights.name} on {run.machine}, voice {run.voice.id}{ended}", markup=False, style="dim", soft_wrap=True)
    console.print(statistics_table(analysis))
    fit = _fit_table(analysis)
    if fit:
        console.print(fit)
    if whole:
        console.print(_first_call_table(analysis))
    console.print(pair_table(analysis, reference))
    _print_notes(analysis)
    return analysis


def _print_notes(analysis: Analysis) -> None:
    """What a reader of the tables has to know."""
    aa = analysis.aa()
    if aa and aa.ratio.differs:
        console.print(AA_FAILED, style="bold red", soft_wrap=True)
    elif said := remark(analysis):
        console.print(f"Of this run, {said}.", style="bold red", soft_wrap=True)
    console.print(resolution_words(analysis), soft_wrap=True)
    if analysis.invalid:
        console.print(f"{analysis.invalid} samples were left out:", style="yellow")
        lost = analysis.frame[~analysis.frame["warm_up"] & ~analysis.frame["valid"]]
        for (label, reason), number in lost.groupby(["label", "reason"], observed=True).size().items():
            console.print(f"  {number} of {label}: {reason}", markup=False, soft_wrap=True)
        for message, number in _count([failure.message for failure in analysis.run.failures if failure.block >= 0]):
            console.print(f"  {number} gave no sample: {message}", markup=False, soft_wrap=True)
    if analysis.throttled:
        console.print(f"After {analysis.throttled} samples the card said that it was being throttled.", style="yellow")


def _count(messages: list[str]) -> list[tuple[str, int]]:
    return [(message, messages.count(message)) for message in dict.fromkeys(messages)]


def print_gate(result: GateResult) -> None:
    """Print a gate's decision."""
    table = Table("configuration", "texts", "time of the candidate / of the baseline (95 %)", "", "state", header_style="bold")
    colours = {"ok": "green", "undecided": "yellow"}
    for row in result.rows:
        ratio = estimate_words(row.ratio, ".3f") if row.ratio else ""
        table.add_row(escape(row.config), row.texts, ratio, escape(row.detail), f"[{colours.get(row.state, 'red')}]{row.state}[/]")
    console.print(table)
    said = "Passed" if result.passed else "Failed"
    console.print(
        f"{said}: {result.candidate} against {result.baseline}, at most {result.limit:.0%} slower.",
        markup=False,
        style="green" if result.passed else "bold red",
        soft_wrap=True,
    )
