"""What all figures of runs share: a style for every configuration, scales, and what is left out where there are too many samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.plot_stack import LEFT, Stack
from lab.plot_theme import PALETTE, plain_label
from lab.run_view import ShownRun

#: Points in a figure; a phone draws so many without stumbling.
MOST_POINTS = 3000

_SHAPES = (("circle", "●"), ("square", "■"), ("diamond", "◆"), ("triangle-up", "▲"), ("star", "★"), ("cross", "✚"), ("pentagon", "⬟"))
_DASHES = (("solid", "━"), ("dash", "╍"), ("dot", "┅"))
_ONE_TWO_FIVE = tuple(round(step * 10.0**power, 9) for power in range(-6, 7) for step in (1, 2, 5))


@dataclass(frozen=True)
class Style:
    """How a configuration is drawn."""

    colour: str
    symbol: str
    glyph: str
    dash: str
    stroke: str


def styles(shown: Sequence[ShownRun]) -> dict[str, Style]:
    """A style for every configuration of the selection, by name."""
    names = dict.fromkeys(arm.config for run in shown for arm in run.run.arms)
    made = {}
    for number, name in enumerate(names):
        colour, turn = PALETTE[number % len(PALETTE)], number // len(PALETTE)
        symbol, glyph = _SHAPES[(number + turn) % len(_SHAPES)]
        dash, stroke = _DASHES[turn % len(_DASHES)]
        made[name] = Style(colour, symbol, glyph, dash, stroke)
    return made


def new_stack(left: int = LEFT) -> Stack:
    """A figure of runs: long lines of text, so that they begin far to the left."""
    return Stack(left=left, text_left=10)


def head(stack: Stack, run: ShownRun) -> None:
    """The line that says which run the rows below belong to."""
    stack.heading(run.title, plain_label(run.note))


def ordered(values: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """At most `most` (2 or more) of `values` (n,) in order, evenly spaced by rank, the least and the greatest among them; and their ranks from 0."""
    ranks = np.arange(values.size) if values.size <= most else np.linspace(0, values.size - 1, most).round().astype(np.intp)
    return np.sort(values)[ranks], ranks


def shares(sizes: Sequence[int], most: int = MOST_POINTS, least: int = 5) -> list[int]:
    """How many points each of several groups of `sizes` may have, `most` in all: small groups whole, the others alike, and none under `least`."""
    left, limits = most, [0] * len(sizes)
    for place, index in enumerate(sorted(range(len(sizes)), key=lambda index: sizes[index])):
        limits[index] = min(sizes[index], max(left // (len(sizes) - place), least))
        left -= limits[index]
    return limits


def thinned(stack: Stack, drawn: int, there: int) -> None:
    """Say in the figure that not everything is drawn."""
    if drawn < there:
        stack.text(f"{drawn:,} of {there:,} samples are drawn.")


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` round numbers from `low` to `high`, both above 0, for a logarithmic axis."""
    inside = [tick for tick in _ONE_TWO_FIVE if low <= tick <= high]
    if len(inside) >= 3:
        return inside[:: math.ceil(len(inside) / most)]
    step = next((step for step in _ONE_TWO_FIVE if (high - low) / step <= most - 1), _ONE_TWO_FIVE[-1])
    return [round(number * step, 9) for number in range(math.ceil(low / step), math.floor(high / step) + 1)] or [low]


def value_axis(low: float, high: float) -> dict[str, Any]:
    """An axis for values from `low` to `high`: logarithmic where they lie so far apart that a linear one would flatten the small ones."""
    if low > 0 and high / low > 3:
        pad = (high / low) ** 0.04
        ticks = log_ticks(low / pad, high * pad)
        text = [f"{tick:g}" for tick in ticks]
        return {"type": "log", "range": [math.log10(low / pad), math.log10(high * pad)], "tickvals": ticks, "ticktext": text}
    pad = (high - low) * 0.05 or high * 0.05 or 1.0
    return {"range": [max(low - pad, 0) if low >= 0 else low - pad, high + pad], "nticks": 6}
