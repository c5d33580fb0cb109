"""The words and the tables of the Runs page, from the shown runs. Tables hold plain strings; words are Markdown with everything from outside escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lab.bench.analysis import ALL_TEXTS, Pair
from lab.bench.comparison import environment_rows
from lab.bench.ratios import Verdict
from lab.bench.statistics import PERCENTILES, Summary
from lab.bench.tables import AA_FAILED, estimate_words, fit_rows, ratio_words, verdict_words
from lab.plot_theme import one_line
from lab.run_view import ShownRun
from lab.ui.words import plain

_ORDER: tuple[Verdict, ...] = ("faster", "slower", "equivalent", "undecided")
_MANY = 6  # pairs of one verdict that are given with their interval in words; more of them are only named
DIFFERS = "≠"
APART = (
    "Started otherwise than the reference, which alone can make an engine slower for as long as it lives, so that nothing is decided: {}."
)


def said(text: str, most: int = 80) -> str:
    """`text` from outside, for a place that renders Markdown."""
    return plain(one_line(text, most))


def words(run: ShownRun) -> str:
    """What a run says, as an item of a Markdown list: its verdicts, and below them what they are worth."""
    record, view = run.run, run.view
    parts = [f"- **{said(run.title)}** · {said(run.note)}."]
    pairs = [pair for pair in run.pairs if pair.a != view.twin]
    if pairs:
        found = [_verdict(word, [pair for pair in pairs if pair.ratio.verdict == word], len(view.sets)) for word in _ORDER]
        parts.append(f"Against {said(run.reference, 40)}: {'; '.join(filter(None, found))}.")
    elif len(record.arms) > 1:
        parts.append("No configuration shown here has a block in common with the reference.")
    aa = view.aa()
    if aa and aa.ratio.differs:
        parts.append(f"**{AA_FAILED}**")
    apart = [pair.a for pair in pairs if not view.started_alike(pair.a, pair.b)]
    if apart:
        parts.append(f"**{APART.format(', '.join(said(label, 40) for label in apart[:_MANY]))}**")
    parts += ["\n  -", _aa_words(run), f"{len(view.counted):,} samples count{_left_out(run)}."]
    if record.state != "complete":
        parts.append(f"**Interrupted**: {said(record.reason or 'no reason given', 120)}.")
    if record.skipped:
        parts.append(f"{len(record.skipped)} configurations could not run there.")
    return " ".join(part for part in parts if part)


def _verdict(word: Verdict, pairs: Sequence[Pair], sets: int) -> str:
    if not pairs:
        return ""
    if len(pairs) > _MANY:
        named = ", ".join(said(pair.a, 40) for pair in pairs[:_MANY])
        return f"**{word}**: {named} and {len(pairs) - _MANY} more"
    each = []
    for pair in pairs:
        # "faster by 6.6 %" and "undecided: about 3 more rounds" without the word that stands in front of all of them
        rest = verdict_words(pair.ratio, sets).removeprefix(word).strip(" :")
        rest = f" {rest}" if rest.startswith(("by ", "within ")) else f" ({rest})" if rest else ""
        each.append(f"{said(pair.a, 40)}{rest}, {ratio_words(pair.ratio)}")
    return f"**{word}**: {'; '.join(each)}"


def _aa_words(run: ShownRun) -> str:
    aa = run.view.aa()
    if aa is None:
        return "There is no A/A arm, so nobody knows what the harness itself adds."
    return f"A/A: {aa.ratio.verdict}, {ratio_words(aa.ratio)}. {_resolution(run)}"


def _resolution(run: ShownRun) -> str:
    """What a run of this size can see: `lab.bench.tables.resolution_words` in fewer words, because a page has them for every run."""
    noise = run.view.noise
    if noise is None:
        return "Too few blocks to say what this run can see."
    born = "" if noise.between_processes is not None else " One launch: what its processes were born with is in no interval."
    found = f"A true difference of 3 % is found in {noise.detected:.0%} of such runs"
    if noise.detected >= 0.8 or noise.blocks_needed is None:
        return f"{found}.{born}"
    return f"{found}; about {math.ceil(noise.blocks_needed / max(len(run.view.sets), 1)):,} rounds would find it in 80 %.{born}"


def _left_out(run: ShownRun) -> str:
    view = run.view
    lost = view.frame[~view.frame["warm_up"] & ~view.frame["valid"]]["reason"].value_counts()
    why = f" ({said(str(lost.index[0]), 100)}{' and others' if len(lost) > 1 else ''})" if len(lost) else ""
    held = f", after {view.throttled:,} of them the card was being held back" if view.throttled else ""
    return held + (f"; **{view.invalid:,} left out**{why}" if view.invalid else "")


def pair_table(shown: Sequence[ShownRun], *, ids: bool = False) -> pd.DataFrame:
    """Every pair over all texts and for each text set, the A/A arm last."""
    rows = []
    for run in shown:
        sets = run.view.sets
        for pair in run.pairs:
            parts = [run.view.pair(pair.a, pair.b, texts) for texts in sets] if len(sets) > 1 else []
            for index, item in enumerate([pair, *(part for part in parts if part)]):
                ratio = item.ratio
                per_round = 1 if index else len(sets)
                rows.append(
                    [
                        run,
                        item.a,
                        item.b,
                        run.texts(item.texts),
                        verdict_words(ratio, per_round),
                        ratio_words(ratio),
                        str(ratio.blocks),
                        str(ratio.launches),
                    ]
                )
    return _table(("Run", "Configuration", "Against", "Texts", "It is", "Ratio of times (95 %)", "Blocks", "Launches"), rows, ids)


def percentile_table(shown: Sequence[ShownRun], *, ids: bool = False) -> pd.DataFrame:
    """Real-time factors of every shown arm, over all texts and for each text set."""
    rows = []
    for run in shown:
        sets = run.view.sets
        for texts in [ALL_TEXTS, *(sets if len(sets) > 1 else [])]:
            rows += [
                [run, label, run.texts(texts), *_figures(found)]
                for label in run.labels
                if (found := run.view.summary(label, texts)) is not None
            ]
    names = ("n", "Mean (95 %)", "Median", "Min", "Max", "SD", "CV", *(f"p{q}" for q in PERCENTILES))
    return _table(("Run", "Configuration", "Texts", *names), rows, ids)


def _figures(found: Summary) -> list[str]:
    form = ".5f" if found.median.value < 0.01 else ".4f" if found.median.value < 1 else ".3f"
    return [
        f"{found.n:,}",
        estimate_words(found.mean, form),
        estimate_words(found.median, form),
        *(format(value, form) for value in (found.least, found.most, found.deviation)),
        f"{found.variation.value:.1%}",
        *(estimate_words(found.percentiles[q], form) for q in PERCENTILES),
    ]


def fit_table(shown: Sequence[ShownRun], *, ids: bool = False) -> pd.DataFrame:
    """Fixed cost and slope of every shown arm that read texts of different lengths."""
    rows = [
        [
            run,
            row["configuration"],
            estimate_words(row["fixed ms"], ".1f"),
            estimate_words(row["ms per second"], ".2f"),
            f"{row['R²']:.3f}",
        ]
        for run in shown
        for row in fit_rows(run.view)
        if row["configuration"] in run.labels
    ]
    return _table(("Run", "Configuration", "Fixed ms (95 %)", "ms per second of audio (95 %)", "R²"), rows, ids)


def first_call_table(shown: Sequence[ShownRun], *, ids: bool = False) -> pd.DataFrame:
    """Start, first utterance, compiling, and the same when warm, of every shown arm."""
    rows = []
    for run in shown:
        for call in run.view.starts:
            if call.label in run.labels:
                together = f" ({call.together} at once)" if call.together > 1 else ""
                start = "" if call.start_s is None else f"{call.start_s:.2f}{together}"
                times = ("" if value is None else f"{value:.1f}" for value in (call.first_ms, call.compile_ms, call.warm_ms))
                rows.append([run, call.label, start, *times])
    return _table(("Run", "Configuration", "Start s", "First utterance ms", "Compiling ms", "The same when warm ms"), rows, ids)


def environment_table(shown: Sequence[ShownRun], *, only_differences: bool = False, ids: bool = False) -> pd.DataFrame:
    """Every fact of the environments with a column for each run; what differs comes first and is marked."""
    rows = sorted(environment_rows([run.run for run in shown]), key=lambda row: not row.differs)
    several = len(shown) > 1
    kept = [row for row in rows if row.differs or not (only_differences and several)]
    # beside the mark of one that differs, an empty value reads like a missing column
    body = [[*([DIFFERS if row.differs else ""] if several else []), row.name, *(value or "–" for value in row.values)] for row in kept]
    columns = [*(["Differs"] if several else []), "Fact", *(run.run.id if ids else run.title for run in shown)]
    return pd.DataFrame([[one_line(str(cell), 300) for cell in row] for row in body], columns=columns, dtype=object)


def _table(columns: Sequence[str], rows: list[list[Any]], ids: bool) -> pd.DataFrame:
    """A table of plain strings from rows that begin with their run: that is its letter where there are several, or its id where `ids` are wanted."""
    named = [[run.run.id if ids else run.title.partition(" · ")[0], *cells] for run, *cells in rows]
    table = pd.DataFrame([[one_line(str(cell), 200) for cell in row] for row in named], columns=list(columns), dtype=object)
    return table if ids or len({id(run) for run, *_ in rows}) > 1 else table.drop(columns="Run")
