"""Clips and timings to plotly figures, with one look for the whole lab.

The look has to work on a light and on a dark page at once, since `gr.Plot` adds no dark theme: backgrounds are transparent, text is
a grey of about equal contrast on both, and colours come from the palette of Okabe & Ito, which colour-blind people can tell apart.
No font is fetched. Figures are made to be small: a long clip is reduced to what a screen can show before it goes into the JSON.

Labels are data. plotly renders a subset of HTML (and, where MathJax is loaded, TeX between dollar signs) in every text, so each
label goes through `plain_label`. This module knows nothing about Gradio or about where clips come from.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.audio import HOP
from lab.errors import LabError
from lab.metrics import MEL_FLOOR_DB, N_MELS, as_clip, log_mel, mel_frequencies

Clip = tuple[str, NDArray[np.float32]]

#: Okabe & Ito, "Color Universal Design", 2008, without black (invisible on a dark page); yellow is last, as it is faint on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
TEXT = "#808080"  # 3.9 : 1 on white, 4.8 : 1 on Gradio's #0b0f19
GRID = "rgba(128, 128, 128, 0.25)"
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
LOUDNESS_SCALE = "Magma"
#: Blue is quieter, orange is louder, and no difference is the page itself, be it white or black.
DIFFERENCE_SCALE = [
    [0.0, "rgba(0, 114, 178, 1)"],
    [0.25, "rgba(40, 150, 215, 0.75)"],
    [0.5, "rgba(128, 128, 128, 0)"],
    [0.75, "rgba(230, 120, 20, 0.75)"],
    [1.0, "rgba(213, 94, 0, 1)"],
]

_WAVE_COLUMNS = 1200
_MEL_COLUMNS, _MEL_COLUMNS_IN_ALL = 500, 2000  # the second bounds the JSON when there are more than four clips
_HERTZ_TICKS = ((250, "250"), (1000, "1k"), (2000, "2k"), (4000, "4k"), (8000, "8k"), (16000, "16k"))
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_BOTTOM = 36, 16, 30
_TITLE_LINE = 17  # pixels
_LABEL_LENGTH = 40  # what a phone of 360 pixels shows in one line


class PlotError(LabError):
    """Data that cannot be drawn."""


def plain_label(label: str) -> str:
    """`label` as a text that plotly shows letter by letter: one line, at most 40 characters, no markup, no TeX, nothing invisible."""
    plain = "".join(" " if c.isspace() else c for c in label if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    plain = " ".join(plain.split())
    if len(plain) > _LABEL_LENGTH:
        plain = plain[: _LABEL_LENGTH - 1] + "…"
    # plotly decodes &amp; &lt; &gt; and numbers, but not &quot;, so quotes stay; a dollar sign starts TeX where MathJax is loaded.
    return html.escape(plain, quote=False).replace("$", "&#36;")


class _Rows:
    """A figure of rows that share one x axis, laid out in pixels so that titles never overlap whatever the number of rows.

    `titles` has one (label, note) per row: the label is raw, the note is escaped already.
    """

    def __init__(self, titles: Sequence[tuple[str, str]], row_height: int, top: int, **axis: Any) -> None:
        self.figure = go.Figure()
        # A note that does not fit beside its label on a phone goes below it; in all rows alike, so that they stay aligned.
        two_lines = any(note and len(label) + len(note) >= _LABEL_LENGTH for label, note in titles)
        gap = "<br>" if two_lines else " · "
        self._titles = [f"<b>{plain_label(label)}</b>{gap if note else ''}{note}" for label, note in titles]
        self._title_height = _TITLE_LINE * (2 if two_lines else 1) + 10
        self._row_height = row_height
        self._inner = max(len(titles), 1) * (row_height + self._title_height)
        self._axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "ticks": "", **axis}
        self.figure.update_layout(
            template="none",
            height=self._inner + top + _MARGIN_BOTTOM,
            autosize=True,
            margin={"l": _MARGIN_LEFT, "r": _MARGIN_RIGHT, "t": top, "b": _MARGIN_BOTTOM, "pad": 0},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            colorway=PALETTE,
            font={"family": FONT, "size": 12, "color": TEXT},
            hoverlabel={"bgcolor": "#333333", "bordercolor": "#333333", "font": {"family": FONT, "color": "#ffffff"}},
            legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
            modebar={"bgcolor": "rgba(0,0,0,0)", "color": TEXT, "activecolor": PALETTE[0], "remove": ["lasso2d", "select2d"]},
            dragmode=False,  # a drag would keep a phone from scrolling past the plot; zoom is in the mode bar
            showlegend=False,
        )

    def add(self, row: int, *traces: Any) -> None:
        """Put `traces` into `row` (0 is the top)."""
        suffix = "" if row == 0 else str(row + 1)
        top = 1 - (row * (self._row_height + self._title_height) + self._title_height) / self._inner
        domain = [max(top - self._row_height / self._inner, 0), top]
        self.figure.update_layout({f"yaxis{suffix}": {"domain": domain, **self._axis}})
        for trace in traces:
            trace.update(xaxis="x", yaxis=f"y{suffix}")
            self.figure.add_trace(trace)
        self.write(self._titles[row], 0, top, "left", "bottom")

    def write(self, text: str, x: float, y: float, anchor: str, yanchor: str) -> None:
        """Write escaped `text` at paper coordinates."""
        place = {"xref": "paper", "yref": "paper", "x": x, "y": y, "xanchor": anchor, "yanchor": yanchor, "align": anchor}
        self.figure.add_annotation(text=text, showarrow=False, borderpad=0, yshift=2, **place)

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
        self.write(title, 0, 1, "left", "bottom")

    def finish(self, unit: str, **axis: Any) -> go.Figure:
        """The figure, with its x axis in `unit` below the last row; without rows, a line of text instead."""
        count = len(self._titles)
        anchor = "y" if count < 2 else f"y{count}"
        axis = {"gridcolor": GRID, "zeroline": False, "anchor": anchor, "ticksuffix": f" {unit}", "ticks": "", "automargin": False, **axis}
        self.figure.update_layout(xaxis=axis)
        if not count:
            self.figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
            self.write("Nothing to show yet.", 0.5, 0.5, "center", "middle")
        return self.figure


def waveforms(clips: Sequence[Clip], rate: int) -> go.Figure:
    """One row per clip (label, (n,) samples) with the envelope of its waveform, all on one scale of time (s) and of amplitude.

    Each of at most 1,200 columns spans the lowest to the highest of its samples, so no peak is lost. Raises
    `lab.metrics.MetricError` for a clip that is empty or not finite.
    """
    checked = [(label, as_clip(samples, "A clip")) for label, samples in clips]
    peaks = [float(np.max(np.abs(samples))) for _, samples in checked]
    notes = [f"peak {20 * math.log10(peak):.1f} dBFS".replace("-", "\u2212") if peak else "silent" for peak in peaks]
    longest = max((samples.size for _, samples in checked), default=0)
    step = max(1, math.ceil(longest / _WAVE_COLUMNS))
    limit = max(peaks, default=0) * 1.05 or 1.0
    titles = [(label, note) for (label, _), note in zip(checked, notes, strict=True)]
    # The 30 pixels on top are where Gradio's label and plotly's mode bar lie.
    rows = _Rows(titles, row_height=72, top=30, range=[-limit, limit], tickvals=[0], showticklabels=False)
    for row, (_, samples) in enumerate(checked):
        starts = np.arange(0, samples.size, step)
        colour = PALETTE[row % len(PALETTE)]
        time = ((starts + step / 2) / rate).astype(np.float32)
        style = {"mode": "lines", "x": time, "line": {"color": colour, "width": 1}, "hoverinfo": "skip"}
        low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
        rows.add(row, go.Scatter(y=low, **style), go.Scatter(y=high, fill="tonexty", fillcolor=colour, **style))
    return rows.finish("s", range=[0, longest / rate])


def _pooled(spectrogram: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """(100, frames) to (100, ceil(frames / step)): means of `step` columns, the last one of what is left, to 0.1 dB."""
    starts = np.arange(0, spectrogram.shape[1], step)
    sums = np.add.reduceat(spectrogram.astype(np.float64), starts, axis=1)
    counts = np.diff(np.append(starts, spectrogram.shape[1]))
    return np.asarray((sums / counts).round(1), dtype=np.float32)


def _step(frames: int, rows: int) -> int:
    columns = min(_MEL_COLUMNS, max(1, _MEL_COLUMNS_IN_ALL // max(rows, 1)))
    return max(1, math.ceil(frames / columns))


def _heatmap(values: NDArray[np.float32], step: int, rate: int) -> Any:
    """A heatmap of (100, columns) on the shared colour axis; column i is centred on frames i · step to (i + 1) · step."""
    seconds = HOP / rate
    hover = "%{x:.2f} s: %{z:.1f} dB<extra></extra>"  # holds no label: a label could hold a placeholder
    place = {"x0": round((step - 1) / 2 * seconds, 5), "dx": round(step * seconds, 6), "y0": 0, "dy": 1}
    return go.Heatmap(z=values, coloraxis="coloraxis", hovertemplate=hover, **place)


def _hertz_axis(rate: int) -> dict[str, Any]:
    """Ticks in Hz on an axis of mel bands 0 to 99 (mel is close to linear below 1 kHz, and to logarithmic above)."""
    centres = mel_frequencies(rate)[1:-1]
    shown = [(hertz, text) for hertz, text in _HERTZ_TICKS if hertz < centres[-1]]
    ticks = [round(float(np.interp(hertz, centres, np.arange(N_MELS))), 2) for hertz, _ in shown]
    return {"range": [-0.5, N_MELS - 0.5], "tickvals": ticks, "ticktext": [text for _, text in shown], "showgrid": False}


def spectrograms(clips: Sequence[Clip], rate: int) -> go.Figure:
    """One log-mel spectrogram per clip (label, (n,) samples): time in s, mel bands with ticks in Hz, one colour scale in dB for all.

    0 dB is a full-scale sine (`lab.metrics.log_mel`); frames are averaged to at most 500 columns. Raises `lab.metrics.MetricError`
    for a clip that is empty or not finite.
    """
    spectra = [log_mel(samples, rate) for _, samples in clips]
    longest = max((spectrum.shape[1] for spectrum in spectra), default=0)
    rows = _Rows([(label, "") for label, _ in clips], row_height=120, top=50, **_hertz_axis(rate))
    step = _step(longest, len(spectra))
    for row, spectrum in enumerate(spectra):
        rows.add(row, _heatmap(_pooled(spectrum, step), step, rate))
    if spectra:
        loudest = max(float(spectrum.max()) for spectrum in spectra)
        high = max(10.0 * math.ceil(loudest / 10), MEL_FLOOR_DB + 20)
        rows.colour_axis(MEL_FLOOR_DB, high, LOUDNESS_SCALE, "level in dB")
    return rows.finish("s", range=[0, longest * HOP / rate])


def difference_spectrograms(reference: Clip, others: Sequence[Clip], rate: int) -> go.Figure:
    """One row per other clip: its log-mel spectrogram minus that of the reference, in dB, on one scale centred on 0.

    The title of each row says which is taken from which, and the mean absolute difference. The scale reaches to the 99.5th percentile
    of the absolute differences and at least to 3 dB; what lies beyond has the colour of its end. Averaging frames to at most 500
    columns lets short differences of opposite sign cancel, though not in the mean that is stated. Raises `PlotError` when the
    lengths differ and `lab.metrics.MetricError` for a clip that is empty or not finite.
    """
    for _, samples in others:
        if len(samples) != len(reference[1]):
            # No labels in here: a page may show the message as HTML.
            raise PlotError(
                f"The clips have {len(samples):,} and {len(reference[1]):,} samples; a difference needs equal lengths. Render both from "
                "the same text, voice and speed."
            )
    baseline, name = log_mel(reference[1], rate), plain_label(reference[0])
    differences = [log_mel(samples, rate) - baseline for _, samples in others]
    notes = [f"minus {name}, {float(np.mean(np.abs(values))):.2f} dB apart on average" for values in differences]
    titles = [(label, note) for (label, _), note in zip(others, notes, strict=True)]
    rows, step = _Rows(titles, row_height=120, top=50, **_hertz_axis(rate)), _step(baseline.shape[1], len(others))
    pooled = [_pooled(values, step) for values in differences]
    for row, values in enumerate(pooled):
        rows.add(row, _heatmap(values, step, rate))
    if pooled:
        limit = max(3, math.ceil(float(np.percentile(np.abs(np.concatenate(pooled, axis=1)), 99.5))))
        rows.colour_axis(-limit, limit, DIFFERENCE_SCALE, "difference in dB")
    return rows.finish("s", range=[0, baseline.shape[1] * HOP / rate])


def stage_bars(rows: Sequence[tuple[str, Mapping[str, float]]]) -> go.Figure:
    """One stacked bar per row (label, milliseconds by stage), stages in the order in which they first appear, with the total at the right.

    Raises `PlotError` for a time that is negative or not finite.
    """
    stages = list(dict.fromkeys(stage for _, times in rows for stage in times))
    bad = [time for _, times in rows for time in times.values() if not 0 <= time < math.inf]
    if bad:
        raise PlotError(f"A stage took {bad[0]} ms, which cannot be drawn: times are finite and not negative. Measure it again.")
    titles = [(label, f"{sum(times.values()):,.0f} ms") for label, times in rows]
    # Room for two lines of legend, so that it does not squeeze the rows on a phone.
    chart = _Rows(titles, row_height=22, top=64, range=[-0.5, 0.5], showticklabels=False, showgrid=False)
    chart.figure.update_layout(barmode="stack", bargap=0, showlegend=bool(stages))
    first_row = {stage: row for row, (_, times) in reversed(list(enumerate(rows))) for stage in times}
    for row, (_, times) in enumerate(rows):
        bars = []
        for number, stage in enumerate(stages):
            if stage in times:
                legend = {"name": plain_label(stage), "legendgroup": f"stage {number}", "showlegend": row == first_row[stage]}
                marker = {"color": PALETTE[number % len(PALETTE)], "line": {"width": 0}}
                bars.append(go.Bar(x=[times[stage]], y=[0], orientation="h", marker=marker, hovertemplate="%{x:,.1f} ms", **legend))
        chart.add(row, *bars)
    return chart.finish("ms", rangemode="tozero")
