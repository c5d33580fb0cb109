"""How real-time factors are distributed, as violins with points, boxes or cumulative shares, and how far the targets are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.plot_stack import LEFT, Stack
from lab.plot_theme import plain_label
from lab.run_plots.look import Style, head, new_stack, ordered, shares, styles, thinned, value_axis
from lab.run_view import ShownRun

Kind = Literal["violin", "box", "ecdf"]
KINDS: tuple[Kind, ...] = ("violin", "box", "ecdf")
#: The real-time factors that the project set itself on 2025-09-30, with how they are drawn.
TARGETS = ((0.15, "dash", "╎"), (0.20, "dot", "┊"))
_TARGET_COLOUR = "#D55E00"


def distributions(shown: Sequence[ShownRun], kind: Kind = "violin") -> go.Figure:
    """Real-time factors of every shown arm, as violins with points, boxes, or cumulative shares, with the two targets.

    The axis fits the samples. A target is drawn where it lies within reach, and otherwise said in words: an axis that reached to a far
    target would press the samples into a line. Runs share a scale where their samples lie within a factor of 4, and otherwise have their
    own.
    """
    stack, look = new_stack(52 if kind == "ecdf" else LEFT), styles(shown)
    data = [[(label, run.view.values(label)["rtf"].to_numpy(dtype=np.float64)) for label in run.labels] for run in shown]
    data = [[(label, values) for label, values in arms if values.size] for arms in data]
    ranges = [(min(v.min() for _, v in arms), max(v.max() for _, v in arms)) if arms else None for arms in data]
    found = [both for both in ranges if both]
    if found:
        low, high = min(least for least, _ in found), max(most for _, most in found)
        if len(found) == 1 or (low > 0 and high / low <= 4):
            ranges = [(low, high) if both else None for both in ranges]
    sizes = [values.size for arms in data for _, values in arms]
    limits = iter(shares(sizes))
    thinned(stack, sum(shares(sizes)), sum(sizes))
    for run, arms, both in zip(shown, data, ranges, strict=True):
        head(stack, run)
        if both is None:
            stack.text("No sample of this run counts here.")
            continue
        axis, reached = _with_targets(*both)
        _say_targets(stack, arms, reached)
        row = _ecdf(stack, run, arms, look, limits) if kind == "ecdf" else _lanes(stack, run, arms, look, limits, kind)
        for target, dash, _ in TARGETS:
            if target in reached:
                stack.shape(row, "line", target, target, line={"color": _TARGET_COLOUR, "width": 1.5, "dash": dash}, layer="above")
        stack.axis("", **axis)
    return stack.finish()


def _with_targets(low: float, high: float) -> tuple[dict[str, Any], list[float]]:
    """The axis of samples from `low` to `high`, and the targets that lie on it: those for which it need not grow to more than 2.5 times its length."""
    reached: list[float] = []
    wide = max(high - low, high * 0.15)
    least, most = low, high
    for target in sorted((target for target, *_ in TARGETS), key=lambda target: abs(target - (low + high) / 2)):
        grown = min(least, target), max(most, target)
        if grown[1] - grown[0] <= 2.5 * wide or (low > 0 and math.log(grown[1] / grown[0]) <= 1.5 * math.log(high / low)):
            (least, most), reached = grown, [*reached, target]
    return value_axis(least, most), reached


def _say_targets(stack: Stack, arms: Sequence[tuple[str, NDArray[np.float64]]], reached: Sequence[float]) -> None:
    for target, _, glyph in TARGETS:
        met = [float(np.mean(values <= target)) for _, values in arms]
        lead = f'<span style="color:{_TARGET_COLOUR}">{glyph if target in reached else ("→" if min(met) > 0.5 else "←")}</span>'
        if min(met) == 1:
            said = "met by every sample"
        elif max(met) == 0:
            said = "met by no sample"
        else:
            said = f"met by {min(met):.0%} to {max(met):.0%} of an arm" if len(met) > 1 else f"met by {met[0]:.0%} of the samples"
        stack.text(f"{lead} target RTF {target:.2f}: {said}")


def _lanes(stack: Stack, run: ShownRun, arms: Any, look: dict[str, Style], limits: Iterator[int], kind: Kind) -> int:
    titles = [(label, f"median {np.median(values):.4g} · n {values.size:,}") for label, values in arms]
    lanes = stack.lanes(titles, 62 if kind == "violin" else 34)
    for (label, values), y in zip(arms, lanes.centres, strict=True):
        style, hollow = look[run.arm(label).config], bool(run.arm(label).instance)
        drawn, _ = ordered(values, next(limits))
        both = {
            "x": drawn,
            "y0": y,
            "orientation": "h",
            "name": plain_label(label),
            "line": {"color": style.colour, "width": 1.5},
            "fillcolor": "rgba(0,0,0,0)" if hollow else _faint(style.colour),
            "hoverinfo": "x",
        }
        marker = {"color": style.colour, "size": 4, "opacity": 0.55, "symbol": f"{style.symbol}{'-open' if hollow else ''}"}
        if kind == "box":
            stack.add(lanes.row, go.Box(boxpoints="outliers", boxmean=True, width=24, quartilemethod="linear", marker=marker, **both))
            continue
        # half a violin above its points, so that neither hides the other; hard ends, because a smooth tail would claim samples that are not there
        shape = {"side": "negative", "width": 60, "spanmode": "hard", "points": "all", "pointpos": 0.45, "jitter": 0.5}
        stack.add(lanes.row, go.Violin(box={"visible": True, "width": 0.16}, marker=marker, scalemode="width", **shape, **both))
    return lanes.row


def _ecdf(stack: Stack, run: ShownRun, arms: Any, look: dict[str, Style], limits: Iterator[int]) -> int:
    for label, values in arms:
        style = look[run.arm(label).config]
        stack.key(style.colour, "┅" if run.arm(label).instance else style.stroke, label, f"median {np.median(values):.4g}")
    row = stack.row(210, range=[0, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], ticktext=["0", "25 %", "50 %", "75 %", "100 %"])
    for label, values in arms:
        style, hollow = look[run.arm(label).config], bool(run.arm(label).instance)
        drawn, ranks = ordered(values, next(limits))
        line = {"color": style.colour, "width": 1.5 if hollow else 2, "dash": "dot" if hollow else style.dash, "shape": "hv"}
        hover = "%{x:.4g}: %{y:.1%}<extra></extra>"
        stack.add(
            row, go.Scatter(x=drawn, y=(ranks + 1) / values.size, mode="lines", line=line, name=plain_label(label), hovertemplate=hover)
        )
    return row


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.28)"
