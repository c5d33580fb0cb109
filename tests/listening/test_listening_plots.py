"""The figures of a study: there for every type, small, readable by theme, and with nothing of a label's markup left."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from lab.listening.model import TYPES
from lab.listening.plots import VERDICT_MARKS, figures
from tests.listening.simulated import scores, study, taste, told
from tests.listening.test_results import judged, usual

NAMES = {"staircase": {"staircase"}, "abx": {"comparisons", "evidence", "listeners"}, "ab": {"comparisons", "evidence", "listeners"}}
ALL = {"comparisons", "evidence", "listeners", "ratings"}


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_its_figures_on_a_transparent_ground(kind: Any) -> None:
    of = study(kind, "other", "third", trials=40)
    made = figures(of, judged(of, *[usual(kind)] * 4))
    assert set(made) == NAMES.get(kind, ALL)
    for figure in made.values():
        assert figure.data
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.dragmode is False
        assert figure.layout.width is None
        assert figure.layout.margin.l <= 60
        assert len(figure.to_json()) < 200_000


@pytest.mark.parametrize("kind", TYPES)
def test_without_answers_figures_say_that_there_is_nothing(kind: Any) -> None:
    of = study(kind)
    for figure in figures(of, judged(of)).values():
        assert not figure.data
        assert "Nothing to show yet." in [note.text for note in figure.layout.annotations]


@pytest.mark.parametrize("kind", TYPES)
def test_names_are_shown_letter_by_letter(kind: Any) -> None:
    of = study(kind, "<b>x</b>", "$\\alpha$", trials=40)
    for figure in figures(of, judged(of, *[usual(kind)] * 3)).values():
        text = json.loads(figure.to_json())
        assert "<b>x</b>" not in json.dumps(text)
        assert "$" not in json.dumps(text)


def test_the_forest_shows_estimates_intervals_margin_and_the_hollow_yardstick_last() -> None:
    of = study("ab")
    found = judged(of, *[taste(0.9)] * 4)
    figure = figures(of, found)["comparisons"]
    points = [trace for trace in figure.data if trace.mode == "markers"]
    row = found.document()["comparisons"][0]
    assert points[0].x[0] == pytest.approx(row["estimate"], abs=1e-6)
    assert points[0].x[0] + points[0].error_x.array[0] == pytest.approx(row["interval"][1], abs=1e-6)
    assert points[0].x[0] - points[0].error_x.arrayminus[0] == pytest.approx(row["interval"][0], abs=1e-6)
    assert points[0].marker.symbol == VERDICT_MARKS["different"][1]
    assert points[-1].marker.symbol.endswith("-open")
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert (band.x0, band.x1) == (pytest.approx(0.3), 0.7)


def test_the_running_line_ends_at_the_e_value_and_stays_on_its_axis() -> None:
    of = study("abx", texts=12)
    found = judged(of, *[told(1.0)] * 5)
    figure = figures(of, found)["evidence"]
    assert found.document()["comparisons"][0]["e_value"] > 1e9
    assert figure.data[0].y[-1] == 1e9
    assert figure.data[0].x[-1] == 60
    assert figure.data[1].y[0] == 20


@pytest.mark.parametrize("answer", [0.55, 0.8, 1.0])
@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "staircase"])
def test_no_tick_of_the_evidence_touches_the_words_above_or_the_ticks_below(kind: Any, answer: float) -> None:
    of = study(kind, texts=12)
    points = {"ref": 97, "other": 40, "seed": 95, "low": 5} if kind == "mushra" else {"ref": 4, "other": 4 * (1 - answer), "low": -3}
    listener = told(answer) if kind == "abx" else taste(answer) if kind == "ab" else scores(points, 1.0)
    figure = figures(of, judged(of, *[listener] * 5))["evidence"]
    layout = figure.layout
    inner = layout.height - layout.margin.t - layout.margin.b
    for axis in (layout.yaxis, layout.yaxis2):
        pixels = inner * (axis.domain[1] - axis.domain[0])
        ticks = [math.log10(tick) if axis.type == "log" else tick for tick in axis.tickvals]
        places = [pixels * (tick - axis.range[0]) / (axis.range[1] - axis.range[0]) for tick in ticks]
        assert len(ticks) >= 1
        assert all(8 <= place <= pixels - 8 for place in places)  # half of a line of 12 pixels, and air
    lines = [trace for trace in figure.data if trace.yaxis == "y2"]
    low, high = layout.yaxis2.range
    assert all(low <= value <= high for line in lines for value in line.y)


def test_boxes_show_all_ratings_with_their_medians_in_the_titles() -> None:
    of = study("acr")
    figure = figures(of, judged(of, *[scores({"ref": 4, "other": 3, "seed": 5, "low": 1})] * 3))["ratings"]
    assert [trace.type for trace in figure.data] == ["box"] * 3
    assert [list(trace.x) for trace in figure.data] == [[4] * 24, [3] * 24, [5] * 24]
    titles = [note.text for note in figure.layout.annotations]
    assert [title.split("median ")[1] for title in titles] == ["4, n = 24", "3, n = 24", "5, n = 24"]


def test_a_track_s_answers_are_all_drawn() -> None:
    of = study("staircase", trials=40)
    found = judged(of, told(0.75), told(0.9))
    figure = figures(of, found)["staircase"]
    drawn = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [len(trace.x) for trace in drawn] == [len(track.history) for track in found.tracks]
    many = judged(of, *[told(0.9)] * 14)
    assert len([trace for trace in figures(of, many)["staircase"].data if trace.mode == "lines+markers"]) == 12


def test_each_counted_listener_has_a_dot() -> None:
    of = study("abx")
    figure = figures(of, judged(of, *[told(0.8)] * 7))["listeners"]
    assert [len(trace.x) for trace in figure.data] == [7]
