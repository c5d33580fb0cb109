"""Samples one by one: time against length with the fitted line, and the whole run in the order in which it was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.bench.statistics import Estimate, Line
from lab.plot_stack import Stack
from lab.plot_theme import TEXT, plain_label
from lab.run_plots.look import Style, head, new_stack, shares, styles, thinned, value_axis
from lab.run_view import ShownRun

_WARM_UP, _INVALID, _THROTTLED = ("circle-open", "○"), ("x-thin-open", "✕"), ("triangle-down-open", "▽")
_ALARM = "#D55E00"


def chosen(values: NDArray[np.float64], keep: NDArray[np.bool_], most: int) -> NDArray[np.intp]:
    """At most `most` (4 or more) places of `values` (n,) in order: the least and the greatest, what `keep` (n,) marks, and others evenly in between.

    Where more than half of `most` are marked, those are thinned evenly as well.
    """
    if values.size <= most:
        return np.arange(values.size)
    ends = np.array([0, values.size - 1, np.nanargmin(values), np.nanargmax(values)])
    marked = _evenly(np.flatnonzero(keep), min(most // 2, most - ends.size))
    fixed = np.union1d(ends, marked)
    others = _evenly(np.setdiff1d(np.arange(values.size), fixed), most - fixed.size)
    return np.union1d(fixed, others)


def _evenly(places: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    if places.size <= most:
        return places
    return places[np.linspace(0, places.size - 1, max(most, 0)).round().astype(np.intp)]


# --- time against length


def lengths(shown: Sequence[ShownRun]) -> go.Figure:
    """Time of an utterance against the length of what it said, with the line that fits: where it meets 0 s is what an utterance costs at all."""
    stack, look = new_stack(52), styles(shown)
    data = [[(label, run.view.values(label)) for label in run.labels] for run in shown]
    data = [[(label, rows) for label, rows in arms if len(rows)] for arms in data]
    sizes = [len(rows) for arms in data for _, rows in arms]
    limits = iter(shares(sizes))
    thinned(stack, sum(shares(sizes)), sum(sizes))
    for run, arms in zip(shown, data, strict=True):
        head(stack, run)
        if not arms:
            stack.text("No sample of this run counts here.")
            continue
        for label, _ in arms:
            style = look[run.arm(label).config]
            stack.key(style.colour, "○" if run.arm(label).instance else style.glyph, label, _fit_words(run.view.fit(label)))
        row = stack.row(230, rangemode="tozero", ticksuffix=" ms", nticks=6)
        longest = max(float(rows["seconds"].max()) for _, rows in arms)
        for label, rows in arms:
            stack.add(row, *_length_traces(run, label, rows, look[run.arm(label).config], longest, next(limits)))
        stack.axis("s", range=[0, longest * 1.04], nticks=6)
    return stack.finish()


def _length_traces(run: ShownRun, label: str, rows: pd.DataFrame, style: Style, longest: float, most: int) -> list[Any]:
    hollow = bool(run.arm(label).instance)
    times = rows["total_ms"].to_numpy(dtype=np.float64)
    places = chosen(times, np.zeros(times.size, dtype=bool), most)
    marker = {"color": style.colour, "size": 5, "opacity": 0.5, "symbol": f"{style.symbol}{'-open' if hollow else ''}"}
    both = {"x": rows["seconds"].to_numpy(dtype=np.float64)[places], "y": times[places], "name": plain_label(label)}
    traces = [go.Scatter(mode="markers", marker=marker, hovertemplate="%{x:.2f} s: %{y:,.1f} ms<extra></extra>", **both)]
    line = run.view.fit(label)
    if line:
        ends = np.array([0.0, longest])
        dash = {"color": style.colour, "width": 1.5, "dash": "dot" if hollow else style.dash}
        y = line.fixed.value + line.slope.value * ends
        traces.append(go.Scatter(x=ends, y=y, mode="lines", line=dash, name=f"{plain_label(label)}: fit", hoverinfo="skip"))
    return traces


def _fit_words(line: Line | None) -> str:
    if line is None:
        return "one length only, no line"
    return f"{_short(line.fixed)} ms + {_short(line.slope)} ms/s"


def _short(estimate: Estimate) -> str:
    """A figure with its interval, to as many digits as the interval is good for."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}".replace("-", "\u2212")
    half = (estimate.high - estimate.low) / 2
    digits = min(max(0, -math.floor(math.log10(half))), 4) if half > 0 else 2
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f} to {estimate.high:.{digits}f})".replace("-", "\u2212")


# --- the order of measurement


def timeline(shown: Sequence[ShownRun]) -> go.Figure:
    """Every sample in the order in which it was asked for: real-time factor, and below it the card's clock and temperature, or the processor's load.

    Warm-ups are hollow, samples that do not count are crossed, those after which the card said that it was held back have a triangle; a vertical
    line is a new set of processes.
    """
    stack, look = new_stack(52), styles(shown)
    frames = [_drawable(run) for run in shown]
    limits = shares([len(frame) for frame in frames])
    thinned(stack, sum(limits), sum(map(len, frames)))
    for run, frame, most in zip(shown, frames, limits, strict=True):
        head(stack, run)
        if frame.empty:
            stack.text("No sample of this run can be drawn here.")
            continue
        _timeline(stack, run, frame, look, most)
    return stack.finish()


def _drawable(run: ShownRun) -> pd.DataFrame:
    frame = run.view.frame
    frame = frame[frame["label"].isin(run.labels) & np.isfinite(frame["rtf"]) & (frame["rtf"] > 0)]
    return frame.sort_values("at_s", kind="stable")


def _thin(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    keep = (~frame["valid"] | frame["throttled"]).to_numpy(dtype=bool)
    return frame.iloc[chosen(frame["rtf"].to_numpy(dtype=np.float64), keep, most)]


def _timeline(stack: Stack, run: ShownRun, frame: pd.DataFrame, look: dict[str, Style], most: int) -> None:
    minutes = float(frame["at_s"].max()) > 300
    frame = frame.assign(at=frame["at_s"] / (60 if minutes else 1))
    warm, lost, held = frame["warm_up"] & frame["valid"], ~frame["valid"], frame["throttled"]
    for label in run.labels:
        style = look[run.arm(label).config]
        stack.key(style.colour, "○" if run.arm(label).instance else style.glyph, label)
    # first utterances take many times as long as later ones, and would press all others into a line
    scale = frame["rtf"][~warm] if (~warm).any() else frame["rtf"]
    axis = value_axis(float(scale.min()), float(scale.max()))
    beyond = int((frame["rtf"][warm] > scale.max()).sum())
    counts = [int(marked.sum()) for marked in (warm, lost, held)]
    frame = _thin(frame, most)
    warm, lost, held = warm[frame.index], lost[frame.index], held[frame.index]
    marks = (
        ("warm-up" + (f", {beyond:,} beyond the scale" if beyond else ""), *_WARM_UP, TEXT, 6, warm),
        ("does not count", *_INVALID, _ALARM, 8, lost),
        ("the card held back (throttled)", *_THROTTLED, _ALARM, 9, held),
    )
    for (name, _, glyph, colour, *_), count in zip(marks, counts, strict=True):
        if count:
            stack.key(colour, glyph, f"{count:,} × {name}")
    stack.title("RTF")
    first = stack.row(170, **axis)
    for label in run.labels:
        style, hollow = look[run.arm(label).config], "-open" if run.arm(label).instance else ""
        rows = frame[(frame["label"] == label) & ~warm & ~lost]
        marker = {"color": style.colour, "size": 5, "opacity": 0.7, "symbol": style.symbol + hollow}
        stack.add(first, _points(rows, marker, plain_label(label)))
    for name, symbol, _, colour, size, marked in marks:
        if marked.any():
            stack.add(
                first,
                _points(frame[marked], {"color": colour, "size": size, "symbol": symbol, "line": {"width": 1.5, "color": colour}}, name),
            )
    rows = [first, *_machine(stack, frame)]
    for at, number in _launches(frame):
        for row in rows:
            stack.shape(row, "line", at, at, line={"color": TEXT, "width": 1, "dash": "dot"})
        stack.note(first, f"launch {number + 1}", at)
    stack.axis("min" if minutes else "s", nticks=6)


def _points(rows: pd.DataFrame, marker: dict[str, Any], name: str) -> Any:
    hover = "%{y:.4g} at %{x:.1f}<br>%{customdata[0]:,.1f} ms for %{customdata[1]:.1f} s, block %{customdata[2]}<extra></extra>"
    facts = rows[["total_ms", "seconds", "block"]].to_numpy(dtype=np.float64)
    place = {"x": rows["at"].to_numpy(dtype=np.float64), "y": rows["rtf"].to_numpy(dtype=np.float64)}
    return go.Scatter(mode="markers", marker=marker, name=name, customdata=facts, hovertemplate=hover, **place)


_READINGS = (("sm_mhz", "Processor clock of the card", "MHz", 64, "#009E73"), ("temperature_c", "Temperature", "°C", 48, "#CC79A7"))


def _machine(stack: Stack, frame: pd.DataFrame) -> list[int]:
    """Rows of what the machine did meanwhile, a line for each device; returns their numbers."""
    readings = [reading for reading in _READINGS if frame[reading[0]].notna().any()]
    readings = readings or [("busy_percent", "Processor in use, by anybody", "%", 56, "#56B4E9")]
    made = []
    for column, title, unit, height, colour in readings:
        stack.title(f"{title}, {unit}")
        low, high = float(frame[column].min()), float(frame[column].max())
        pad = max((high - low) * 0.15, high * 0.03, 1.0)  # a clock that stays the same is a flat line in the middle, not noise
        made.append(stack.row(height, range=[low - pad, high + pad], nticks=4))
        for _, rows in frame[frame[column].notna()].groupby("device"):
            style = {
                "mode": "lines",
                "line": {"color": colour, "width": 1.5, "shape": "hv"},
                "hovertemplate": f"%{{y:,.0f}} {unit}<extra></extra>",
            }
            stack.add(made[-1], go.Scatter(x=rows["at"].to_numpy(), y=rows[column].to_numpy(dtype=np.float64), name=title, **style))
    return made


def _launches(frame: pd.DataFrame) -> list[tuple[float, int]]:
    """Where a new set of processes begins: halfway between the last sample of one and the first of the next."""
    rows = frame[frame["launch"] >= 0]
    firsts, lasts = rows.groupby("launch")["at"].min(), rows.groupby("launch")["at"].max()
    return [
        (float((lasts[before] + firsts[number]) / 2), int(number)) for before, number in zip(firsts.index, firsts.index[1:], strict=False)
    ]
