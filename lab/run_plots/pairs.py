"""Paired ratios with intervals and verdicts: is a faster than b, by how much, how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from lab.bench.analysis import Pair
from lab.bench.ratios import EQUIVALENCE, Verdict
from lab.bench.tables import ratio_words
from lab.plot_stack import Stack
from lab.plot_theme import TEXT, one_line, plain_label
from lab.run_plots.look import head, log_ticks, new_stack
from lab.run_view import ShownRun

_MANY = 8  # pairs of a run; with more of them the text sets are left to the table
_FAINT = "rgba(128, 128, 128, 0.6)"
#: Told apart by symbol and word as well as by colour.
VERDICT_MARKS: dict[Verdict, tuple[str, str, str]] = {
    "faster": ("#009E73", "triangle-left", "◀"),
    "slower": ("#D55E00", "triangle-right", "▶"),
    "equivalent": ("#0072B2", "diamond", "◆"),
    "undecided": (TEXT, "circle", "●"),
}


def forest(shown: Sequence[ShownRun]) -> go.Figure:
    """The paired ratios of every run with their intervals and verdicts, on a logarithmic scale; the A/A arm last and hollow.

    A ratio below 1 is faster than the reference. The band is the margin within which two are equivalent. Of up to
    8 pairs each has a line for every text set below that for all. An interval that does not end, for too few blocks, is dotted from edge to edge.
    """
    stack = new_stack(66)
    rows = [(run, [_lines(run, pair) for pair in run.pairs]) for run in shown]
    for (run, lanes), (low, high) in zip(rows, _scales([lanes for _, lanes in rows]), strict=True):
        head(stack, run)
        if not lanes:
            stack.text("No pair of this run has a block in common.")
            continue
        stack.text(f"◀ faster than {plain_label(one_line(run.reference, 22))}", "slower ▶")
        _pairs(stack, run, lanes, low, high)
        ticks = _ratio_ticks(low, high)
        stack.axis(type="log", range=[math.log10(low), math.log10(high)], tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return stack.finish()


def _scales(rows: Sequence[Sequence[Sequence[Pair]]]) -> list[tuple[float, float]]:
    """The range of ratios of each run; one for all of them, unless some run would take up less than a third of it."""
    found = []
    for lanes in rows:
        ratios = [pair.ratio for lines in lanes for pair in lines]
        numbers = [number for ratio in ratios for number in (ratio.median, ratio.low, ratio.high) if 0 < number < math.inf]
        low, high = min([*numbers, 0.96]), max([*numbers, 1.04])
        pad = (high / low) ** 0.05
        found.append((low / pad, high * pad))
    whole = min((low for low, _ in found), default=1.0), max((high for _, high in found), default=1.0)
    own = any(math.log(high / low) < math.log(whole[1] / whole[0]) / 3 for low, high in found)
    return found if own else [whole] * len(found)


def _lines(run: ShownRun, pair: Pair) -> list[Pair]:
    """A pair over all texts, and for each set where there are several."""
    sets = run.view.sets if len(run.view.sets) > 1 and len(run.pairs) <= _MANY else []
    return [pair, *(found for name in sets if (found := run.view.pair(pair.a, pair.b, name)))]


def _pairs(stack: Stack, run: ShownRun, rows: Sequence[Sequence[Pair]], low: float, high: float) -> None:
    lanes = stack.lanes([(lines[0].a, _pair_note(lines[0])) for lines in rows], [12 + 18 * len(lines) for lines in rows])
    y_of = [
        (pair, middle + 18 * (index - (len(lines) - 1) / 2), not index)
        for lines, middle in zip(rows, lanes.centres, strict=True)
        for index, pair in enumerate(lines)
    ]
    margin = 1 + EQUIVALENCE
    stack.shape(lanes.row, "rect", 1 / margin, margin, fillcolor="rgba(128, 128, 128, 0.2)")
    stack.shape(lanes.row, "line", 1, 1, line={"color": TEXT, "width": 1})
    for said, (colour, symbol, _) in VERDICT_MARKS.items():
        points = [(pair, y, first) for pair, y, first in y_of if pair.ratio.verdict == said]
        if not points:
            continue
        ended = [pair.ratio.low > 0 and pair.ratio.high < math.inf for pair, _, _ in points]
        marks = {
            "color": colour,
            "size": [11 if first else 7 for _, _, first in points],
            "symbol": [symbol + ("-open" if run.arm(pair.a).instance else "") for pair, _, _ in points],
            "line": {"width": 1.5, "color": colour},
        }
        error = {
            "type": "data",
            "symmetric": False,
            "array": [pair.ratio.high - pair.ratio.median if end else 0 for (pair, _, _), end in zip(points, ended, strict=True)],
            "arrayminus": [pair.ratio.median - pair.ratio.low if end else 0 for (pair, _, _), end in zip(points, ended, strict=True)],
            "color": colour,
            "thickness": 2,
            "width": 4,
        }
        place = {"x": [pair.ratio.median for pair, _, _ in points], "y": [y for _, y, _ in points]}
        hover = f"%{{x:.3f}} {said}<extra></extra>"
        stack.add(lanes.row, go.Scatter(mode="markers", marker=marks, error_x=error, name=said, hovertemplate=hover, **place))
        for (_, y, _), end in zip(points, ended, strict=True):
            if not end:
                stack.shape(lanes.row, "line", low, high, at=y, line={"color": _FAINT, "width": 1, "dash": "dot"})
    names = [plain_label(one_line(run.texts(pair.texts), 9)) for pair, _, _ in y_of]
    stack.ticks(lanes.row, [y for _, y, _ in y_of], names)


def _pair_note(pair: Pair) -> str:
    colour, _, glyph = VERDICT_MARKS[pair.ratio.verdict]
    by = f" by {abs(pair.ratio.median - 1):.1%}" if pair.ratio.differs else ""
    ratio = ratio_words(pair.ratio) if pair.ratio.high < math.inf else f"{pair.ratio.median:.3f} (too few blocks)"
    return f'<span style="color:{colour}">{glyph}</span> {pair.ratio.verdict}{by} · {ratio}'


def _ratio_ticks(low: float, high: float) -> list[float]:
    """Ticks of a scale of ratios: 1 and round numbers on both sides of it."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2):
        ticks = [round(1 + number * step, 4) for number in range(math.ceil((low - 1) / step), math.floor((high - 1) / step) + 1)]
        if len(ticks) <= 6:
            return ticks
    ticks = log_ticks(low, high)
    return ticks if 1 in ticks else log_ticks(low, high, 20)
