"""Figures of a study's results, by name. They show what `lab.listening.results` found and compute nothing that decides; the look is `lab.plot_theme`'s.

Labels are a study's own names: they go to plotly through `plain_label` (the stack's titles do so themselves) and into no hover template.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.listening import evidence
from lab.listening.judgements import Judgement
from lab.listening.model import Role, StoredStudy, clip_name
from lab.listening.results import Compared, Results
from lab.listening.scoring import ladder_of
from lab.listening.statistics.evalues import ENOUGH
from lab.listening.verdicts import SCALES, Verdict
from lab.plot_stack import Stack
from lab.plot_theme import PALETTE, TEXT, one_line, plain_label

#: Told apart by symbol and word as well as by colour.
VERDICT_MARKS: dict[Verdict, tuple[str, str, str]] = {
    "different": ("#D55E00", "square", "■"),
    "equivalent": ("#0072B2", "diamond", "◆"),
    "undecided": (TEXT, "circle", "●"),
}
_BAND = "rgba(128, 128, 128, 0.2)"
_MOST_TRACKS, _MOST_SERIES = 12, 6
_E_LEAST, _E_MOST = 1e-3, 1e9  # what the axis of e-values shows; beyond, nothing is decided any more


def figures(study: StoredStudy, results: Results) -> dict[str, go.Figure]:
    """All figures that the study's type has, by name; without answers they say so.

    "comparisons": estimates with their intervals, the margin and the yardstick; "evidence": the e-value and the interval after every answer; "ratings":
    boxes of acr, ccr and mushra; "listeners": each listener's mean; "staircase": the tracks.
    """
    if study.manifest.type == "staircase":
        return {"staircase": staircase(study, results)}
    made = {"comparisons": comparisons(study, results), "evidence": running_evidence(study, results)}
    if study.manifest.type in SCALES:
        made["ratings"] = ratings(study, results)
    made["listeners"] = listeners(study, results)
    return made


def comparisons(study: StoredStudy, results: Results) -> go.Figure:
    """Each comparison's estimate with its interval and verdict; the band is the margin, the line no difference; the yardstick is last and hollow."""
    stack = Stack(left=16, text_left=10)
    shown = [one for one in (*results.comparisons, results.yardstick) if one is not None and one.finding.estimate is not None]
    if not shown:
        return stack.finish()
    kind, margin = study.manifest.type, study.manifest.margin
    stack.text(f"{'anytime-valid ' if results.decision == 'anytime' else ''}95 % intervals · grey band: margin")
    stack.text(*_directions(study))
    low, high = _range(study, shown)
    lanes = stack.lanes([(one.name, _note(one)) for one in shown], 26)
    null = shown[0].finding.null
    band = (null - (margin - null), margin) if null else (-margin, margin)
    stack.shape(lanes.row, "rect", 0.5 if kind == "abx" else max(band[0], low), min(band[1], high), fillcolor=_BAND)
    stack.shape(lanes.row, "line", null, null, line={"color": TEXT, "width": 1})
    for one, y in zip(shown, lanes.centres, strict=True):
        stack.add(lanes.row, _point(one, y, hollow=one is results.yardstick))
    stack.axis(**_axis(study, low, high))
    return stack.finish()


def _point(one: Compared, y: float, *, hollow: bool) -> Any:
    colour, symbol, _ = VERDICT_MARKS[one.finding.verdict]
    value, interval = one.finding.estimate or 0.0, one.finding.interval
    error = {} if interval is None else {"array": [interval.high - value], "arrayminus": [value - interval.low]}
    return go.Scatter(
        x=[value],
        y=[y],
        mode="markers",
        marker={"color": colour, "size": 10, "symbol": symbol + ("-open" if hollow else ""), "line": {"width": 1.5, "color": colour}},
        error_x={"type": "data", "symmetric": False, "color": colour, "thickness": 2, "width": 4, **error},
        hovertemplate="%{x:.3f}<extra></extra>",
    )


def _note(one: Compared) -> str:
    colour, _, glyph = VERDICT_MARKS[one.finding.verdict]
    return f'<span style="color:{colour}">{glyph}</span> {one.finding.verdict} · {one.finding.n} answers'


def _directions(study: StoredStudy) -> tuple[str, str]:
    reference = plain_label(one_line(study.manifest.reference, 16))
    if study.manifest.type == "abx":
        return "guessing: 50 %", "always told ▶"
    word = "preferred" if study.manifest.type == "ab" else "better"
    return f"◀ {reference} {word}", f"it is {word} ▶"


def _range(study: StoredStudy, shown: Sequence[Compared]) -> tuple[float, float]:
    if study.manifest.type in ("ab", "abx"):
        return 0.0, 1.0
    reach = [study.manifest.margin * 1.2]
    for one in shown:
        interval = one.finding.interval
        reach += [abs(one.finding.estimate or 0.0), *((abs(interval.low), abs(interval.high)) if interval else ())]
    return -max(reach) * 1.05, max(reach) * 1.05


def _axis(study: StoredStudy, low: float, high: float) -> dict[str, Any]:
    if study.manifest.type in ("ab", "abx"):
        return {"range": [low - 0.02, high + 0.02], "tickvals": [0, 0.25, 0.5, 0.75, 1], "ticktext": ["0", "25 %", "50 %", "75 %", "100 %"]}
    return {"range": [low, high], "nticks": 7}


def running_evidence(study: StoredStudy, results: Results) -> go.Figure:
    """The e-value (above 20: different) and the estimate with its anytime-valid interval after every answer of the first comparisons."""
    stack = Stack(left=44, text_left=10)
    kind = study.manifest.type
    shown = [one for one in results.comparisons if one.sample.values][:_MOST_SERIES]
    lines = [(one, evidence.running(one.sample, kind), PALETTE[place % len(PALETTE)]) for place, one in enumerate(shown)]
    if not lines:
        return stack.finish()
    for one, points, colour in lines:
        stack.key(colour, "━", one.name, f"e-value {_e_words(points[-1]['e_value'])}")
    if len(shown) < len(results.comparisons):
        stack.text(f"{len(shown)} of {len(results.comparisons)} comparisons are drawn.")
    stack.text("answers in the order they came · dotted: margin")
    stack.title("e-value", "from 20 on: different")
    ticks = {0.01: "0.01", 1: "1", ENOUGH: "20", 1000: "1,000", 1_000_000: "10⁶"}
    drawn = [np.clip([point["e_value"] for point in points], _E_LEAST, _E_MOST) for _, points, _ in lines]
    axis = _airy(np.log10([ENOUGH, *np.concatenate(drawn)]).tolist(), [math.log10(tick) for tick in ticks])
    shown_ticks = [tick for tick in ticks if math.log10(tick) in axis["tickvals"]]
    row = stack.row(150, type="log", range=axis["range"], tickvals=shown_ticks, ticktext=[ticks[tick] for tick in shown_ticks])
    for (_, points, colour), values in zip(lines, drawn, strict=True):
        stack.add(row, _line([point["n"] for point in points], values, colour))
    longest = max(points[-1]["n"] for _, points, _ in lines)
    stack.add(row, _line([0, longest * 1.02], [ENOUGH, ENOUGH], TEXT, dash="dash"))
    share = kind not in SCALES
    stack.title("right answers" if kind == "abx" else "preference" if share else "points", "with the interval that holds at all times")
    edges = _margins(study)
    reach = [*edges, *(point[name] for _, points, _ in lines for point in points for name in ("low", "high"))]
    row = stack.row(150, **({"tickformat": ".0%", **_airy([0, 1], [0, 0.5, 1])} if share else _airy(reach, _round(min(reach), max(reach)))))
    for _, points, colour in lines:
        x = [point["n"] for point in points]
        stack.add(row, _line(x, [point["low"] for point in points], colour, width=0))
        stack.add(row, _line(x, [point["high"] for point in points], colour, width=0, fill=_faint(colour)))
        stack.add(row, _line(x, [point["estimate"] for point in points], colour))
    for edge in edges:
        stack.add(row, _line([0, longest * 1.02], [edge, edge], TEXT, dash="dot"))
    stack.axis(range=[0, longest * 1.02], nticks=6)
    return stack.finish()


def _airy(values: Sequence[float], ticks: Sequence[float]) -> dict[str, Any]:
    """An axis for `values` whose ticks keep away from its ends: there are words above it, and the other axis's ticks below."""
    low, high = float(min(values)), float(max(values))
    air = 0.08 * ((high - low) or 1)
    return {"range": [low - air, high + air], "tickvals": [float(tick) for tick in ticks if low <= tick <= high]}


def _round(low: float, high: float) -> list[float]:
    """Two to five round numbers from `low` to `high`."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _margins(study: StoredStudy) -> tuple[float, ...]:
    margin = study.manifest.margin
    return {"abx": (margin,), "ab": (1 - margin, margin)}.get(study.manifest.type, (-margin, margin))


def _line(x: Sequence[float], y: Any, colour: str, *, width: float = 2, dash: str = "solid", fill: str = "") -> Any:
    filled = {"fill": "tonexty", "fillcolor": fill} if fill else {}
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": colour, "width": width, "dash": dash},
        hovertemplate="%{x}: %{y:.3g}<extra></extra>",
        **filled,
    )


def _e_words(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}" if value < 1e6 else "over 10⁶"


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.18)"


def ratings(study: StoredStudy, results: Results) -> go.Figure:
    """Boxes of all ratings of each system (of ccr of each comparison), the median in the title; the box is from quartile to quartile."""
    stack = Stack(left=16, text_left=10)
    kind = study.manifest.type
    groups: dict[str, list[float]] = {config.name: [] for config in study.manifest.configs[1 if kind == "ccr" else 0 :]}
    yardsticks: list[tuple[Judgement, Role]] = [(one, "other seed") for one in results.scored.yardsticks]
    for one, role in [*((one, one.role) for one in results.scored.judgements), *yardsticks]:
        groups.setdefault(clip_name(one.comparison, role), []).append(one.value)
    groups = {name: values for name, values in groups.items() if values}
    if not groups:
        return stack.finish()
    lanes = stack.lanes(
        [(name, f"median {np.median(values):g}, n = {len(values)}".replace("-", "\u2212")) for name, values in groups.items()], 34
    )
    for place, (values, y) in enumerate(zip(groups.values(), lanes.centres, strict=True)):
        colour = PALETTE[place % len(PALETTE)]
        box = go.Box(
            x=values,
            y=[y] * len(values),
            orientation="h",
            width=22,
            quartilemethod="linear",
            boxpoints="outliers",
            marker={"color": colour, "size": 4},
            line={"color": colour, "width": 2},
            fillcolor=_faint(colour),
            hoverinfo="x",
        )
        stack.add(lanes.row, box)
    if kind == "ccr":
        stack.shape(lanes.row, "line", 0, 0, line={"color": TEXT, "width": 1})
    low, high = {"acr": (1, 5), "ccr": (-3, 3), "mushra": (0, 100)}[kind]
    pad = (high - low) * 0.04
    stack.axis(range=[low - pad, high + pad], dtick=20 if kind == "mushra" else 1)
    return stack.finish()


def listeners(study: StoredStudy, results: Results) -> go.Figure:
    """Each listener's mean about each comparison, one dot a listener."""
    stack = Stack(left=16, text_left=10)
    found = []
    for one in results.comparisons:
        by_listener: dict[int, list[float]] = {}
        for value, listener in zip(one.sample.values, one.sample.listeners, strict=True):
            by_listener.setdefault(listener, []).append(value)
        if by_listener:
            found.append((one, {listener: sum(values) / len(values) for listener, values in by_listener.items()}))
    if not found:
        return stack.finish()
    stack.text(*_directions(study))
    lanes = stack.lanes([(one.name, f"{len(means)} listener{'s' * (len(means) != 1)}") for one, means in found], 40)
    null = found[0][0].finding.null
    stack.shape(lanes.row, "line", null, null, line={"color": TEXT, "width": 1})
    for place, ((_, means), y) in enumerate(zip(found, lanes.centres, strict=True)):
        # dots with the same mean are moved apart, evenly and always the same way
        spread = {listener: 14 * (((rank * 7) % 11) / 10 - 0.5) if len(means) > 1 else 0.0 for rank, listener in enumerate(means)}
        marker = {"color": PALETTE[place % len(PALETTE)], "size": 9, "opacity": 0.75}
        hover = "listener %{text}: %{x:.3g}<extra></extra>"
        stack.add(
            lanes.row,
            go.Scatter(
                x=list(means.values()), y=[y + spread[who] for who in means], text=[str(who) for who in means], mode="markers", marker=marker,
                hovertemplate=hover,
            ),
        )  # fmt: skip
    reach = max([abs(mean) for _, means in found for mean in means.values()] + [study.manifest.margin]) * 1.1
    stack.axis(**_axis(study, *((0.0, 1.0) if null else (-reach, reach))))
    return stack.finish()


def staircase(study: StoredStudy, results: Results) -> go.Figure:
    """A row for each listener's track: filled dots are right answers, hollow ones wrong, the dashed line the threshold. At most 12 rows."""
    stack = Stack(left=36, text_left=10)
    ladder = ladder_of(study.manifest)
    shown = results.tracks[:_MOST_TRACKS]
    if shown:
        stack.key(PALETTE[0], "●", "right", "○ wrong · ┅ threshold")
    if len(shown) < len(results.tracks):
        stack.text(f"{len(shown)} of {len(results.tracks)} tracks are drawn.")
    for track in shown:
        stack.title(f"Listener {track.listener}", plain_label(_short(track.words)))
        y = [ladder.index(level) for level, _ in track.history]
        x = list(range(1, len(y) + 1))
        # the hardest level on top, as in the literature a track goes down when it gets easier
        row = stack.row(
            110, range=[len(ladder) - 0.5, -0.5], tickvals=list(range(0, len(ladder), 2)), ticktext=[str(level) for level in ladder[::2]]
        )
        symbols = ["circle" if right else "circle-open" for _, right in track.history]
        marker = {"color": PALETTE[0], "size": 6, "symbol": symbols}
        line = {"color": PALETTE[0], "width": 1}
        stack.add(row, go.Scatter(x=x, y=y, mode="lines+markers", line=line, marker=marker, hovertemplate="trial %{x}<extra></extra>"))
        place = track.threshold.place
        if place is not None and not math.isnan(place):
            stack.add(row, _line([0.5, len(y) + 0.5], [place, place], PALETTE[5], dash="dash"))
    longest = max((len(track.history) for track in shown), default=1)
    stack.axis(range=[0.5, longest + 0.5], nticks=6)
    return stack.finish()


def _short(words: str) -> str:
    return words.replace(" from the reference", "").split(" (")[0]
