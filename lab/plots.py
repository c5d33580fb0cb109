"""Clips and their timings to plotly figures.

Figures are made to be small: a long clip is reduced to what a screen can show before it goes into the JSON. This module knows nothing
about Gradio or about where clips come from; the look is `lab.plot_theme`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.audio import HOP
from lab.metrics import MEL_FLOOR_DB, N_MELS, as_clip, log_mel, mel_frequencies
from lab.plot_stack import Stack
from lab.plot_theme import PALETTE, PlotError, plain_label

Clip = tuple[str, NDArray[np.float32]]

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
    stack = Stack()
    for row, (_, samples) in enumerate(checked):
        starts = np.arange(0, samples.size, step)
        colour = PALETTE[row % len(PALETTE)]
        time = ((starts + step / 2) / rate).astype(np.float32)
        style = {"mode": "lines", "x": time, "line": {"color": colour, "width": 1}, "hoverinfo": "skip"}
        low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
        stack.title(*titles[row])
        traces = go.Scatter(y=low, **style), go.Scatter(y=high, fill="tonexty", fillcolor=colour, **style)
        stack.row(72, *traces, range=[-limit, limit], tickvals=[0], showticklabels=False)
    stack.axis("s", range=[0, longest / rate])
    return stack.finish()


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
    stack, step = Stack(top=50), _step(longest, len(spectra))
    for (label, _), spectrum in zip(clips, spectra, strict=True):
        stack.title(label)
        stack.row(120, _heatmap(_pooled(spectrum, step), step, rate), **_hertz_axis(rate))
    if spectra:
        loudest = max(float(spectrum.max()) for spectrum in spectra)
        high = max(10.0 * math.ceil(loudest / 10), MEL_FLOOR_DB + 20)
        stack.colour_axis(MEL_FLOOR_DB, high, LOUDNESS_SCALE, "level in dB")
    stack.axis("s", range=[0, longest * HOP / rate])
    return stack.finish()


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
    stack, step = Stack(top=50), _step(baseline.shape[1], len(others))
    pooled = [_pooled(values, step) for values in differences]
    for (label, _), note, values in zip(others, notes, pooled, strict=True):
        stack.title(label, note)
        stack.row(120, _heatmap(values, step, rate), **_hertz_axis(rate))
    if pooled:
        limit = max(3, math.ceil(float(np.percentile(np.abs(np.concatenate(pooled, axis=1)), 99.5))))
        stack.colour_axis(-limit, limit, DIFFERENCE_SCALE, "difference in dB")
    stack.axis("s", range=[0, baseline.shape[1] * HOP / rate])
    return stack.finish()


def stage_bars(rows: Sequence[tuple[str, Mapping[str, float]]]) -> go.Figure:
    """One stacked bar per row (label, milliseconds by stage), stages in the order in which they first appear, with the total at the right.

    Raises `PlotError` for a time that is negative or not finite.
    """
    stages = list(dict.fromkeys(stage for _, times in rows for stage in times))
    bad = [time for _, times in rows for time in times.values() if not 0 <= time < math.inf]
    if bad:
        raise PlotError(f"A stage took {bad[0]} ms, which cannot be drawn: times are finite and not negative. Measure it again.")
    # Room for two lines of legend below the mode bar, so that they do not squeeze the rows on a phone.
    stack = Stack(top=72)
    stack.figure.update_layout(barmode="stack", bargap=0, showlegend=bool(stages))
    first_row = {stage: row for row, (_, times) in reversed(list(enumerate(rows))) for stage in times}
    for row, (label, times) in enumerate(rows):
        bars = []
        for number, stage in enumerate(stages):
            if stage in times:
                legend = {"name": plain_label(stage), "legendgroup": f"stage {number}", "showlegend": row == first_row[stage]}
                marker = {"color": PALETTE[number % len(PALETTE)], "line": {"width": 0}}
                bars.append(go.Bar(x=[times[stage]], y=[0], orientation="h", marker=marker, hovertemplate="%{x:,.1f} ms", **legend))
        stack.title(label, f"{sum(times.values()):,.0f} ms")
        stack.row(22, *bars, range=[-0.5, 0.5], showticklabels=False, showgrid=False)
    stack.axis("ms", rangemode="tozero")
    return stack.finish()
