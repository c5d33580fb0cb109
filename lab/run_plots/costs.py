"""Where the time and the memory go: stages of an utterance, peak memory, and what the first call costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from lab.engine.clip import STAGES
from lab.plot_stack import Stack
from lab.plot_theme import PALETTE
from lab.run_plots.look import head, new_stack, styles
from lab.run_view import ShownRun

_FIRST = (
    ("start of the process", "#56B4E9"),
    ("compiling", "#D55E00"),
    ("rest of the first utterance", "#0072B2"),
    ("the same when warm", "#009E73"),
)


def stages(shown: Sequence[ShownRun]) -> go.Figure:
    """Mean milliseconds of an utterance in its stages, one bar for each shown arm."""
    stack = new_stack()
    for name, colour in zip(STAGES, PALETTE, strict=False):
        stack.key(colour, "■", name)
    tables = [run.view.stages() for run in shown]
    ends = _ends([float(table.sum(axis=1).max()) if len(table) else 0.0 for table in tables])
    for run, table, most in zip(shown, tables, ends, strict=True):
        labels = [label for label in run.labels if label in table.index]
        _bars(
            stack,
            run,
            [(label, f"{table.loc[label].sum():,.1f} ms") for label in labels],
            [
                (name, PALETTE[number % len(PALETTE)], [float(table.loc[label, name]) for label in labels])
                for number, name in enumerate(STAGES)
            ],
            "ms",
            most,
        )
    return _stacked(stack)


def memory(shown: Sequence[ShownRun]) -> go.Figure:
    """Peak memory of every shown arm in MiB."""
    stack, look = new_stack(), styles(shown)
    columns = [run.view.memory() for run in shown]
    ends = _ends([float(column.max()) if len(column) else 0.0 for column in columns])
    for run, column, most in zip(shown, columns, ends, strict=True):
        labels = [label for label in run.labels if label in column.index]
        colours = [look[run.arm(label).config].colour for label in labels]
        titles = [(label, f"{column[label]:,.0f} MiB") for label in labels]
        _bars(stack, run, titles, [("peak", colours, [float(column[label]) for label in labels])], "MiB", most)
    return _stacked(stack)


def first_calls(shown: Sequence[ShownRun]) -> go.Figure:
    """What the first utterance costs in seconds: start of the process, compiling, the rest of it; and below it the same when warm."""
    stack = new_stack()
    for name, colour in _FIRST:
        stack.key(colour, "■", name)
    rows = [(run, [call for call in run.view.starts if call.label in run.labels]) for run in shown]
    ends = _ends([max(((call.start_s or 0) + (call.first_ms or 0) / 1000 for call in calls), default=0.0) for _, calls in rows])
    for (run, calls), most in zip(rows, ends, strict=True):
        cold = run.view.whole.frame[run.view.whole.frame["cold"] == 1].drop_duplicates("label").set_index("label")["compile_ms"]
        titles, parts, warm = [], [], []
        for call in calls:
            first = (call.first_ms or 0) / 1000
            compiling = min(float(cold.get(call.label, 0.0)) / 1000, first)
            parts.append((call.start_s or 0.0, compiling, first - compiling))
            warm.append((call.warm_ms or 0.0) / 1000)
            said = "not measured" if call.first_ms is None else f"{first:,.2f} s"
            titles.append((call.label, f"{said}, warm {warm[-1]:,.2f} s" if call.warm_ms is not None else said))
        bars: list[Any] = [(name, colour, [part[number] for part in parts]) for number, (name, colour) in enumerate(_FIRST[:3])]
        _bars(stack, run, titles, bars, "s", most, below=(*_FIRST[3], warm))
    return _stacked(stack)


def _ends(longest: list[float]) -> list[float]:
    """Where the axis of each run ends, from its longest bar: for all at the longest, unless that would make the bars of some run tiny."""
    there = [length for length in longest if length > 0]
    return [max(there)] * len(longest) if there and max(there) <= 4 * min(there) else longest


def _stacked(stack: Stack) -> go.Figure:
    stack.figure.update_layout(barmode="stack")
    return stack.finish()


def _bars(
    stack: Stack,
    run: ShownRun,
    titles: list[tuple[str, str]],
    parts: Sequence[tuple[str, Any, list[float]]],
    unit: str,
    most: float,
    below: Any = None,
) -> None:
    """A bar for each of `titles`, stacked from `parts` (name, colour or colours, lengths), and a thin one `below` it."""
    head(stack, run)
    if not titles:
        stack.text("No sample of this run counts here.")
        return
    lanes = stack.lanes(titles, 20 if below is None else 30)
    shift = 0 if below is None else -5
    hover = f"%{{x:,.4g}} {unit}"
    for name, colours, lengths in parts:
        y = [centre + shift for centre in lanes.centres]
        style = {"name": name, "hovertemplate": hover, "marker": {"color": colours, "line": {"width": 0}}}
        stack.add(lanes.row, go.Bar(x=lengths, y=y, width=18, orientation="h", **style))
    if below is not None:
        name, colour, lengths = below
        y = [centre + 10 for centre in lanes.centres]
        style = {"name": name, "hovertemplate": hover, "marker": {"color": colour, "line": {"width": 0}}}
        stack.add(lanes.row, go.Bar(x=lengths, y=y, width=8, orientation="h", **style))
    stack.axis(unit, range=[0, most * 1.03 or 1.0], nticks=5, separatethousands=True)
