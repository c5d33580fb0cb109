"""How a figure is put together: lines of text and rows of axes from top to bottom, in pixels, so that nothing overlaps on a phone of 360 pixels.

Widths follow the page, heights do not. The look is `lab.plot_theme`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go

from lab.plot_theme import FONT, GRID, LABEL_LENGTH, PALETTE, TEXT, plain_label

LEFT, _RIGHT, _BOTTOM = 36, 16, 30
_LINE = 17  # pixels
_AXIS = 36  # between the rows of one x axis and what comes below: its ticks, and air


@dataclass
class _Line:
    """A line of text above what comes next; the note goes below it where one line would be too long for a phone."""

    label: str  # raw
    note: str  # escaped
    kind: str = "title"  # or "heading", or "key"; all lines of a kind are of one height
    lead: str = ""  # escaped, before the label
    gap: str = " · "
    right: str = ""  # escaped, at the right end of the line

    @property
    def long(self) -> bool:
        return bool(self.note) and len(self.label) + len(self.note) + len(self.gap) > LABEL_LENGTH + 2


@dataclass
class _Row:
    """A place for traces: a pair of axes."""

    height: int
    y: str  # name of the axis in a trace: y, y2, …
    x: str
    axis: dict[str, Any]


@dataclass
class _Gap:
    height: int


@dataclass
class Lanes:
    """Rows without axes of their own: one pair of axes whose y is in pixels from the top, and a title over each lane."""

    row: int
    centres: list[float] = field(default_factory=list)  # y of each lane's middle


class Stack:
    """A figure as a stack of lines of text and of rows, laid out in pixels so that nothing overlaps whatever there is of it.

    Add from top to bottom; `axis` ends a group of rows that share one x axis; `finish` gives the figure.
    """

    def __init__(self, top: int = 30, left: int = LEFT, text_left: int = LEFT) -> None:
        """Leave `top` free for legends and plotly's mode bar, and `left` for ticks; lines of text begin at `text_left`."""
        self.figure = go.Figure()
        self._top, self._left, self._text_left = top, left, text_left
        self._items: list[_Line | _Row | _Gap] = []
        self._rows: list[_Row] = []
        self._groups = 0
        self._open = False  # whether there are rows without an x axis
        self._axes: dict[str, dict[str, Any]] = {}
        self._caption = ""  # of the colour scale
        # collected and handed over at once: plotly copies all that are there each time one is added
        self._traces: list[Any] = []
        self._annotations: list[dict[str, Any]] = []
        self._shapes: list[dict[str, Any]] = []

    # --- lines of text

    def heading(self, label: str, note: str = "") -> None:
        """Name what comes below, up to the next heading: `label` is raw, `note` is escaped."""
        if self._items:
            self._items.append(_Gap(14))
        self._items.append(_Line(label, note, "heading"))

    def title(self, label: str, note: str = "") -> None:
        """Name the next row."""
        self._items.append(_Line(label, note))

    def key(self, colour: str, glyph: str, label: str, note: str = "") -> None:
        """A line of legend, which says what is drawn in `colour` and as `glyph`."""
        self._items.append(_Line(label, note, "key", f'<span style="color:{colour}">{glyph}</span> ', ": "))

    def text(self, text: str, right: str = "") -> None:
        """A line of escaped text, and what stands at its right end; keep both together to 44 characters."""
        self._items.append(_Line("", text, "text", right=right))

    # --- rows

    def row(self, height: int, *traces: Any, **axis: Any) -> int:
        """A row of `height` pixels with `traces`; `axis` goes to its y axis. Returns its number."""
        if not self._open:
            self._groups, self._open = self._groups + 1, True
        number = len(self._rows)
        suffix = "" if number == 0 else str(number + 1)
        group = "" if self._groups == 1 else str(self._groups)
        row = _Row(height, f"y{suffix}", f"x{group}", axis)
        self._items.append(row)
        self._rows.append(row)
        self.add(number, *traces)
        return number

    def add(self, row: int, *traces: Any) -> None:
        """Put `traces` into a row that is there."""
        for trace in traces:
            trace.update(xaxis=self._rows[row].x, yaxis=self._rows[row].y)
            self._traces.append(trace)

    def lanes(self, titles: Sequence[tuple[str, str]], height: int | Sequence[int], **axis: Any) -> Lanes:
        """One row with a lane of `height` pixels for each of `titles` (label raw, note escaped), on a y axis in pixels from the top."""
        heights = [height] * len(titles) if isinstance(height, int) else list(height)
        lines = [_Line(label, note) for label, note in titles]
        line_height = _Layout.of(lines)["title"]
        made, y = Lanes(-1), 0.0
        ends = []
        for lane in heights:
            ends.append(y + line_height)
            made.centres.append(y + line_height + lane / 2)
            y += line_height + lane
        made.row = self.row(int(y), **{"range": [y, 0], "showticklabels": False, "showgrid": False, **axis})
        row = self._rows[made.row]
        split = any(line.long for line in lines)
        for line, end in zip(lines, ends, strict=True):
            self._write(_words(line, split), {"yref": row.y, "y": end})
        return made

    def ticks(self, row: int, values: Sequence[float], texts: Sequence[str]) -> None:
        """Write escaped `texts` at the left of a row, at `values` of its axis."""
        self._rows[row].axis.update(showticklabels=True, tickvals=values, ticktext=texts)

    def shape(self, row: int, kind: str, x0: float, x1: float, *, at: float | None = None, **style: Any) -> None:
        """A line or a rectangle over the whole height of a row, or a line `at` a value of its y axis; behind the traces."""
        place = self._rows[row]
        style = {"layer": "below", **({"line": {"width": 0}} if kind == "rect" else {}), **style}
        y = {"yref": f"{place.y} domain", "y0": 0, "y1": 1} if at is None else {"yref": place.y, "y0": at, "y1": at}
        self._shapes.append({"type": kind, "xref": place.x, "x0": x0, "x1": x1, **y, **style})

    def note(self, row: int, text: str, x: float) -> None:
        """Escaped `text` at the top of a row, to the right of `x` on its axis."""
        place = self._rows[row]
        self._write(text, {"xref": place.x, "yref": f"{place.y} domain", "x": x, "y": 1, "yanchor": "top", "xshift": 2})

    def axis(self, unit: str = "", **axis: Any) -> None:
        """End a group of rows: they share an x axis in `unit`, with its ticks below the last of them."""
        if not self._open:
            return
        row = self._rows[-1]
        base = {"gridcolor": GRID, "zeroline": False, "anchor": row.y, "ticks": "", "automargin": False}
        self._axes[f"xaxis{row.x[1:]}"] = {**base, **({"ticksuffix": f" {unit}"} if unit else {}), **axis}
        self._items.append(_Gap(_AXIS))
        self._open = False

    def colour_axis(self, low: float, high: float, scale: Any, title: str) -> None:
        """One colour scale for all rows, with a thin bar on top of the figure, where it takes no width from a phone."""
        bar = {
            "orientation": "h",
            "thickness": 8,
            "len": 0.5,
            "x": 1,
            "xanchor": "right",
            "xpad": 0,
            "y": 1,
            "yanchor": "bottom",
            "ypad": 4,
            "outlinewidth": 0,
            "tickvals": [low, (low + high) / 2, high],
            "ticklabeloverflow": "allow",
        }
        self.figure.update_layout(coloraxis={"cmin": low, "cmax": high, "colorscale": scale, "colorbar": bar})
        self._caption = title

    def finish(self) -> go.Figure:
        """The figure; without rows, a line of text instead."""
        if self._items and isinstance(self._items[-1], _Gap):
            self._items.pop()  # the margin has the ticks of the last axis
        lines = [item for item in self._items if isinstance(item, _Line)]
        layout = _Layout.of(lines)
        inner = sum(layout[item.kind] if isinstance(item, _Line) else item.height for item in self._items)
        y = 0
        changes: dict[str, Any] = dict(self._axes)
        for item in self._items:
            y += layout[item.kind] if isinstance(item, _Line) else item.height
            if isinstance(item, _Line):
                self._write(_words(item, layout.split(item.kind)), {"y": 1 - y / inner})
                if item.right:
                    self._write(item.right, {"y": 1 - y / inner, "x": 1, "xanchor": "right", "xshift": 0})
            elif isinstance(item, _Row):
                domain = [max(1 - y / inner, 0), 1 - (y - item.height) / inner]
                base = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "ticks": ""}
                changes[f"yaxis{item.y[1:]}"] = {"domain": domain, **base, **({"anchor": item.x} if item.x != "x" else {}), **item.axis}
        if self._caption:
            self._write(self._caption, {"y": 1})
        if not self._rows:
            inner = max(inner, 100)
            changes |= {"xaxis": {"visible": False}, "yaxis": {"visible": False}}
            self._write("Nothing to show yet.", {"x": 0.5, "y": 0.5, "xanchor": "center", "yanchor": "middle", "xshift": 0})
        self.figure.add_traces(self._traces)
        self.figure.update_layout(
            template="none",
            annotations=self._annotations,
            shapes=self._shapes,
            height=inner + self._top + _BOTTOM,
            autosize=True,
            margin={"l": self._left, "r": _RIGHT, "t": self._top, "b": _BOTTOM, "pad": 0},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            colorway=PALETTE,
            font={"family": FONT, "size": 12, "color": TEXT},
            hoverlabel={"bgcolor": "#333333", "bordercolor": "#333333", "font": {"family": FONT, "color": "#ffffff"}},
            legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
            modebar={"bgcolor": "rgba(0,0,0,0)", "color": TEXT, "activecolor": PALETTE[0], "remove": ["lasso2d", "select2d"]},
            dragmode=False,  # a drag would keep a phone from scrolling past the plot; zoom is in the mode bar
            showlegend=False if self.figure.layout.showlegend is None else self.figure.layout.showlegend,
            **changes,
        )
        return self.figure

    def _write(self, text: str, place: dict[str, Any]) -> None:
        style = {
            "xref": "paper",
            "yref": "paper",
            "x": 0,
            "xanchor": "left",
            "yanchor": "bottom",
            "xshift": self._text_left - self._left,
            "yshift": 2,
        }
        style |= place
        self._annotations.append({"text": text, "showarrow": False, "borderpad": 0, "align": style["xanchor"], **style})


_AIR = {"title": 10, "heading": 8, "key": 2, "text": 2}


class _Layout(dict[str, int]):
    """Pixels of a line of each kind: a note that does not fit beside its label goes below it, in all lines of the kind alike."""

    @classmethod
    def of(cls, lines: Sequence[_Line]) -> _Layout:
        """Look at all lines at once."""
        found = cls({kind: _LINE + air for kind, air in _AIR.items()})
        for kind, air in _AIR.items():
            if kind != "text" and any(line.long for line in lines if line.kind == kind):
                found[kind] = 2 * _LINE + air
        return found

    def split(self, kind: str) -> bool:
        """Whether the lines of a kind take two lines."""
        return self[kind] > _LINE + _AIR[kind]


def _words(line: _Line, split: bool) -> str:
    if line.kind == "text":
        return line.note
    label = plain_label(line.label)
    gap = "<br>" if split else line.gap
    strong = f"<b>{label}</b>" if line.kind != "key" else label
    return f"{line.lead}{strong}{gap if line.note else ''}{line.note}"
