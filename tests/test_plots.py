import base64
import itertools
import json

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.metrics import MetricError, log_mel
from lab.plots import PALETTE, PlotError, difference_spectrograms, plain_label, spectrograms, stage_bars, waveforms

RATE = 24_000
HOSTILE = '<b>x</b> ${alert(1)} <a href="javascript:1">&amp;'


def noise(seed: int, seconds: float = 1.0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal(int(seconds * RATE))).astype(np.float32)


def texts_of(figure: go.Figure) -> str:
    """Everything in a figure that plotly would render as text."""
    layout = figure.layout
    parts = [a.text for a in layout.annotations] + [t.name or "" for t in figure.data]
    parts += [str(axis.ticktext) for axis in figure.select_yaxes()] + [t.hovertemplate or "" for t in figure.data]
    return "\n".join(parts)


def every_figure(label: str = "A") -> dict[str, go.Figure]:
    a, b = noise(1), noise(2)
    return {
        "waveforms": waveforms([(label, a), ("B", b)], RATE),
        "spectrograms": spectrograms([(label, a), ("B", b)], RATE),
        "differences": difference_spectrograms((label, a), [("B", b), (label, a)], RATE),
        "stages": stage_bars([(label, {"sampler": 12.0, label: 3.0}), ("B", {"sampler": 10.0})]),
    }


# --- labels


@pytest.mark.parametrize("name", every_figure())
def test_hostile_labels_are_escaped_in_every_figure(name):
    text = texts_of(every_figure(HOSTILE)[name])
    assert "&lt;b&gt;x&lt;/b&gt; &#36;{alert(1)}" in text
    assert "<b>x" not in text
    assert "<a" not in text
    assert "${" not in text


@pytest.mark.parametrize(
    ("label", "plain"),
    [
        ("Baseline, NFE 32", "Baseline, NFE 32"),
        ('<i>"R&D\'s"</i>', '&lt;i&gt;"R&amp;D\'s"&lt;/i&gt;'),
        ("$x^2$", "&#36;x^2&#36;"),
        ("a\n\tb\u202ec\u0000\ud800", "a bc"),
        ("x" * 41, "x" * 39 + "…"),
    ],
)
def test_a_label_is_one_line_of_plain_text(label, plain):
    assert plain_label(label) == plain


@given(st.text(st.characters(exclude_categories=()), max_size=80))
@settings(deadline=None)  # the machine may be busy
def test_no_label_can_open_a_tag_or_break_the_json(label):
    plain = plain_label(label)
    assert not set("<>$\n") & set(plain)
    assert json.loads(stage_bars([(label, {label: 1.0})]).to_json())


# --- the look


@pytest.mark.parametrize("name", every_figure())
def test_all_figures_share_one_theme_that_works_on_light_and_dark_pages(name):
    layout = every_figure()[name].layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert layout.font.color == "#808080"
    assert layout.font.family.startswith("system-ui")
    assert layout.legend.orientation == "h"
    assert tuple(layout.colorway) == PALETTE
    assert layout.margin.l + layout.margin.r < 60  # a phone is 360 pixels wide
    assert layout.dragmode is False


@pytest.mark.parametrize("draw", [waveforms, spectrograms])
def test_the_height_grows_by_the_same_amount_with_every_row(draw):
    heights = [draw([(str(i), noise(i, 0.1)) for i in range(n)], RATE).layout.height for n in (1, 2, 3, 7)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 50
    assert heights[3] - heights[2] == 4 * (heights[1] - heights[0])


def test_rows_do_not_overlap_and_share_the_time_axis():
    figure = waveforms([(str(i), noise(i, 0.1)) for i in range(5)], RATE)
    domains = [axis.domain for axis in figure.select_yaxes()]
    assert len(domains) == 5
    for upper, lower in itertools.pairwise(domains):
        assert upper[0] > lower[1]
    assert {trace.xaxis for trace in figure.data} == {"x"}
    assert figure.layout.xaxis.anchor == "y5"


def test_a_note_that_does_not_fit_beside_its_label_goes_below_it():
    short, long = waveforms([("A", noise(1))], RATE), waveforms([("A" * 40, noise(1))], RATE)
    assert "<br>" not in short.layout.annotations[0].text
    assert "<br>peak" in long.layout.annotations[0].text
    assert long.layout.height > short.layout.height


@pytest.mark.parametrize("figure", [waveforms([], RATE), spectrograms([], RATE), stage_bars([])], ids=["wave", "mel", "bars"])
def test_without_data_a_figure_says_so(figure):
    assert "Nothing to show yet." in texts_of(figure)
    figure.to_json()


def test_four_clips_of_fifteen_seconds_stay_below_one_and_a_half_megabytes():
    clips = [(f"clip {i}", noise(i, 15)) for i in range(4)]
    figures = [waveforms(clips, RATE), spectrograms(clips, RATE), difference_spectrograms(clips[0], clips[1:], RATE)]
    sizes = [len(figure.to_json()) for figure in figures]
    assert max(sizes) < 1_500_000, sizes
    assert sizes[0] < 150_000


def test_many_clips_get_fewer_columns_instead_of_a_larger_figure():
    assert len(spectrograms([(str(i), noise(i, 3)) for i in range(12)], RATE).to_json()) < 1_500_000


# --- waveforms


def test_the_envelope_keeps_every_peak_in_at_most_1200_columns():
    clip = np.zeros(RATE * 4, np.float32)
    clip[12_345], clip[70_001] = 0.9, -0.7
    low, high = waveforms([("A", clip)], RATE).data
    assert len(low.x) == len(low.y) == len(high.y) <= 1200
    assert max(high.y) == pytest.approx(0.9)
    assert min(low.y) == pytest.approx(-0.7)
    step = 80  # 96,000 samples in 1,200 columns
    assert low.x[int(np.argmax(high.y))] == pytest.approx((12_345 // step + 0.5) * step / RATE, abs=1e-3)


def test_clips_of_different_lengths_and_levels_share_both_scales():
    figure = waveforms([("loud", noise(1, 2.0, 0.2)), ("short", noise(2, 0.5, 0.01))], RATE)
    assert {tuple(axis.range) for axis in figure.select_yaxes()} == {tuple(figure.layout.yaxis.range)}
    assert figure.layout.xaxis.range == (0, 2.0)
    assert max(figure.data[2].x) <= 0.5


def test_silence_and_a_single_sample_can_be_drawn():
    figure = waveforms([("silence", np.zeros(100, np.float32)), ("one", np.ones(1, np.float32))], RATE)
    assert "silent" in texts_of(figure)
    assert "peak 0.0 dBFS" in texts_of(figure)


@pytest.mark.parametrize("draw", [waveforms, spectrograms])
def test_a_clip_with_nan_is_refused(draw):
    with pytest.raises(MetricError, match="not numbers"):
        draw([("A", np.array([0.0, np.nan], np.float32))], RATE)


# --- spectrograms


def test_a_tone_lights_the_row_that_the_axis_labels_with_its_frequency():
    tone = np.sin(2 * np.pi * 4000 * np.arange(RATE) / RATE).astype(np.float32)
    figure = spectrograms([("4 kHz", tone)], RATE)
    axis = figure.layout.yaxis
    labelled = axis.tickvals[axis.ticktext.index("4k")]
    assert abs(int(np.argmax(np.asarray(figure.data[0].z)[:, 40])) - labelled) < 1
    assert axis.range == (-0.5, 99.5)


def test_columns_are_means_of_frames_rounded_to_a_tenth_and_placed_in_seconds():
    clip = noise(3, 15)
    trace = spectrograms([("A", clip)], RATE).data[0]
    values, expected = np.asarray(trace.z), log_mel(clip, RATE)
    assert expected.shape == (100, 1407)
    assert values.shape == (100, 469)  # three frames per column
    np.testing.assert_allclose(values[:, 7], expected[:, 21:24].mean(axis=1), atol=0.051)
    assert np.all(np.abs(values * 10 - np.round(values * 10)) < 1e-3)
    assert trace.dx == pytest.approx(3 * 256 / RATE)
    assert trace.x0 == pytest.approx(256 / RATE, abs=1e-4)  # the middle of frames 0, 1, 2


def test_all_rows_share_one_colour_scale_that_holds_the_loudest_value():
    figure = spectrograms([("loud", noise(1, 1, 0.5)), ("quiet", noise(2, 1, 0.01))], RATE)
    assert {trace.coloraxis for trace in figure.data} == {"coloraxis"}
    assert figure.layout.coloraxis.cmin == -80
    assert figure.layout.coloraxis.cmax >= max(np.max(trace.z) for trace in figure.data)


def test_a_difference_says_which_minus_which_and_has_the_sign_of_it():
    a = noise(1)
    figure = difference_spectrograms(("baseline", a), [("louder", a * 2)], RATE)
    assert figure.layout.annotations[0].text == "<b>louder</b><br>minus baseline, 6.02 dB apart on average"
    assert np.median(figure.data[0].z) == pytest.approx(6.0, abs=0.05)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-6, 6)  # 6.02 dB, pooled to 6.0


def test_a_tiny_difference_keeps_a_scale_of_three_decibels_centred_on_zero():
    a = noise(1)
    figure = difference_spectrograms(("a", a), [("b", a * 1.01)], RATE)
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (-3, 3)
    assert figure.layout.coloraxis.colorscale[2] == (0.5, "rgba(128, 128, 128, 0)")


def test_a_difference_of_clips_of_unequal_length_is_refused_without_naming_them():
    with pytest.raises(PlotError, match="23,000 and 24,000 samples") as caught:
        difference_spectrograms((HOSTILE, noise(1)), [(HOSTILE, noise(2)[:23_000])], RATE)
    assert "<" not in str(caught.value)


# --- stages


def test_stages_stack_in_order_of_first_appearance_with_one_legend_entry_each():
    figure = stage_bars([("A", {"text": 1.0, "sampler": 20.0}), ("B", {"text": 2.0, "vocoder": 3.0, "sampler": 10.0})])
    assert [(t.name, t.x[0], t.yaxis) for t in figure.data] == [
        ("text", 1.0, "y"),
        ("sampler", 20.0, "y"),
        ("text", 2.0, "y2"),
        ("sampler", 10.0, "y2"),
        ("vocoder", 3.0, "y2"),
    ]
    assert [t.name for t in figure.data if t.showlegend] == ["text", "sampler", "vocoder"]
    assert len({(t.name, t.marker.color) for t in figure.data}) == 3
    assert [a.text for a in figure.layout.annotations] == ["<b>A</b> · 21 ms", "<b>B</b> · 15 ms"]
    assert figure.layout.barmode == "stack"


def test_rows_with_one_label_stay_two_rows():
    figure = stage_bars([("A", {"sampler": 1.0}), ("A", {"sampler": 2.0})])
    assert len(figure.data) == len(list(figure.select_yaxes())) == 2


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf")])
def test_an_impossible_time_is_refused(time):
    with pytest.raises(PlotError, match="cannot be drawn"):
        stage_bars([(HOSTILE, {"sampler": time})])


def test_arrays_travel_as_packed_numbers():
    trace = json.loads(spectrograms([("A", noise(1))], RATE).to_json())["data"][0]
    assert trace["z"]["dtype"] == "f4"
    assert len(base64.b64decode(trace["z"]["bdata"])) == 4 * 100 * 94
