"""Figures of runs: what they draw is what the runs say, whatever stands in the runs."""

import itertools
import json
import math
from functools import cache

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import run_plots
from lab.bench.record import Run
from lab.plot_theme import PALETTE, plain_label
from lab.run_plots import look
from lab.run_plots.samples import chosen
from lab.run_view import CannotShow, ShownRun, View, Views, short_names
from tests.runs import machine, synthetic_run

HOSTILE = '<b>x</b> ${alert(1)} <a href="javascript:1">'
CARD = machine("NVIDIA H100 80GB HBM3", "cuda")
DRAW = {
    "forest": run_plots.forest,
    "violin": run_plots.distributions,
    "box": lambda shown: run_plots.distributions(shown, "box"),
    "ecdf": lambda shown: run_plots.distributions(shown, "ecdf"),
    "stages": run_plots.stages,
    "lengths": run_plots.lengths,
    "timeline": run_plots.timeline,
    "memory": run_plots.memory,
    "first calls": run_plots.first_calls,
}


@cache
def a_run(configs: str = "baseline,optimized", **settings) -> Run:
    return synthetic_run(configs, **{"times": None, **settings})


@cache
def fast() -> Run:
    return synthetic_run("baseline,fp16-vocoder,optimized", rounds=20, times={"baseline": 50, "fp16-vocoder": 50, "optimized": 40}, on=CARD)


def show(run: Run, title: str = "a card", **filters) -> ShownRun:
    view = View(run, **filters)
    return ShownRun(view, tuple(view.labels), view.reference, title, "demo · 2026-11-25 06:00")


def document(run: Run) -> dict:
    return json.loads(run.model_dump_json())


def changed(run: Run, **samples) -> Run:
    """The run with columns of its samples replaced."""
    whole = document(run)
    whole["samples"].update(samples)
    return Run.model_validate_json(json.dumps(whole))


def texts_of(figure: go.Figure) -> str:
    """Everything in a figure that plotly would render as text."""
    parts = [a.text for a in figure.layout.annotations] + [trace.name or "" for trace in figure.data]
    parts += [trace.hovertemplate or "" for trace in figure.data]
    parts += [str(axis.ticktext) for axis in (*figure.select_xaxes(), *figure.select_yaxes()) if axis.ticktext]
    return "\n".join(parts)


def shapes(figure: go.Figure, kind: str = "line") -> list:
    return [shape for shape in figure.layout.shapes if shape.type == kind]


# --- all figures


@pytest.mark.parametrize("name", DRAW)
def test_every_figure_is_drawn_small_with_the_common_look(name):
    figure = DRAW[name]([show(fast()), show(a_run(), "another")])
    layout = figure.layout
    assert len(figure.data) >= 2
    assert len(figure.to_json()) < 400_000
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert (layout.font.color, layout.dragmode, layout.showlegend) == ("#808080", False, False)
    assert tuple(layout.colorway) == PALETTE
    assert all(axis.fixedrange for axis in figure.select_yaxes())


@pytest.mark.parametrize("name", DRAW)
def test_without_runs_a_figure_says_so(name):
    figure = DRAW[name]([])
    assert "Nothing to show yet." in texts_of(figure)
    figure.to_json()


@pytest.mark.parametrize("name", DRAW)
def test_a_run_of_which_nothing_counts_is_named_and_not_drawn(name):
    run = a_run()
    nothing = changed(run, invalid={str(index): ["silent"] for index in range(len(run.samples))})
    figure = DRAW[name]([show(nothing, "empty one"), show(run, "full one")])
    assert "empty one" in texts_of(figure)
    assert "full one" in texts_of(figure)
    assert len(DRAW[name]([show(nothing)]).to_json()) > 0


@pytest.mark.parametrize("name", DRAW)
def test_hostile_labels_are_shown_letter_by_letter(name):
    whole = document(a_run())
    for arm, label in zip(whole["arms"], (HOSTILE, HOSTILE + " (A/A)", "$x^2$ " + "long " * 40), strict=True):
        arm["label"] = arm["config"] = label
    figure = DRAW[name]([show(Run.model_validate_json(json.dumps(whole)), HOSTILE)])
    text = texts_of(figure)
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert "<b>x" not in text
    assert "<a" not in text
    assert "$" not in text.replace("&#36;", "")
    assert "long long long long long long long long" not in text


@pytest.mark.parametrize("name", DRAW)
def test_rows_and_titles_never_overlap(name):
    figure = DRAW[name]([show(fast(), "x" * 60), show(a_run())])
    domains = sorted((axis.domain for axis in figure.select_yaxes()), reverse=True)
    assert all(upper[0] >= lower[1] for upper, lower in itertools.pairwise(domains))
    assert domains[0][1] <= 1
    assert domains[-1][0] >= 0


def test_a_configuration_has_one_colour_in_all_figures_and_runs():
    shown = [show(a_run("optimized,baseline")), show(a_run("baseline,optimized", seed=1))]
    colours = {}
    for figure in (run_plots.distributions(shown, "ecdf"), run_plots.lengths(shown)):
        for trace in figure.data:
            if trace.mode == "lines":
                colours.setdefault(trace.name.split(":")[0].removesuffix(" (A/A)"), set()).add(trace.line.color)
    assert colours == {"optimized": {PALETTE[0]}, "baseline": {PALETTE[1]}}


def test_fourteen_configurations_are_told_apart_by_colour_and_symbol():
    run = a_run("baseline,optimized")
    whole = document(run)
    arm = whole["arms"][0]
    whole["arms"] = [{**arm, "label": f"arm {n}", "config": f"arm {n}"} for n in range(49)]
    styles = look.styles([show(Run.model_validate_json(json.dumps(whole)))])
    assert len({(style.colour, style.symbol) for style in styles.values()}) == 49


# --- distributions


def test_violins_show_every_sample_of_a_small_run():
    shown = show(fast())
    figure = run_plots.distributions([shown])
    assert [trace.type for trace in figure.data] == ["violin"] * 4
    for trace, label in zip(figure.data, shown.labels, strict=True):
        np.testing.assert_allclose(trace.x, np.sort(shown.view.values(label)["rtf"]))
        assert trace.points == "all"
        assert trace.spanmode == "hard"


def test_the_cumulative_share_ends_at_one_and_is_half_at_the_median():
    shown = show(fast())
    trace = run_plots.distributions([shown], "ecdf").data[0]
    assert trace.y[-1] == 1
    values = shown.view.values(shown.labels[0])["rtf"]
    assert trace.x[int(np.searchsorted(trace.y, 0.5))] == pytest.approx(values.median(), rel=0.02)
    assert trace.line.shape == "hv"


@pytest.mark.parametrize(
    ("times", "drawn", "said"),
    [
        ({"baseline": 15.0}, [], "→</span> target RTF 0.15: met by every sample"),
        ({"baseline": 160.0}, [0.15, 0.2], "target RTF 0.20: met by every sample"),
        ({"baseline": 1600.0}, [], "←</span> target RTF 0.20: met by no sample"),
    ],
)
def test_a_target_is_drawn_within_reach_and_otherwise_said_with_its_direction(times, drawn, said):
    run = synthetic_run("baseline", "medium", times=times)
    figure = run_plots.distributions([show(run)])
    assert sorted({line.x0 for line in shapes(figure)}) == drawn
    assert said in texts_of(figure)
    low, high = figure.layout.xaxis.range
    assert all(low < line.x0 < high for line in shapes(figure))
    spread = np.ptp(np.concatenate([trace.x for trace in figure.data]))
    assert (high - low) < 6 * spread  # the samples are never pressed into a line


def test_runs_share_a_scale_unless_they_lie_far_apart():
    near = run_plots.distributions([show(a_run()), show(a_run(seed=1))]).layout
    assert near.xaxis.range == near.xaxis2.range
    slow = synthetic_run("baseline,optimized", times={"baseline": 5000, "optimized": 4900})
    far = run_plots.distributions([show(a_run()), show(slow)]).layout
    assert far.xaxis.range[1] < far.xaxis2.range[0]


def test_configurations_far_apart_get_a_logarithmic_axis():
    run = synthetic_run("baseline,optimized", "medium", times={"baseline": 50, "optimized": 500})
    axis = run_plots.distributions([show(run)]).layout.xaxis
    assert axis.type == "log"
    low, high = (10**end for end in axis.range)
    assert 2 <= len(axis.tickvals) <= 6
    assert all(low < tick < high for tick in axis.tickvals)


# --- pairs


def test_the_forest_has_every_pair_with_its_interval_and_the_aa_arm_last_and_hollow():
    shown = show(fast())
    figure = run_plots.forest([shown])
    points = {}
    for trace in figure.data:
        for x, y, symbol, up, down in zip(
            trace.x, trace.y, trace.marker.symbol, trace.error_x.array, trace.error_x.arrayminus, strict=True
        ):
            points[y] = (x, x - down, x + up, symbol, trace.name)
    pairs = [shown.view.pair(pair.a, pair.b, texts) for pair in shown.pairs for texts in ("all", "short", "medium")]
    assert len(points) == len(pairs) == 9
    for (_, point), pair in zip(sorted(points.items()), pairs, strict=True):
        assert point[:3] == pytest.approx((pair.ratio.median, pair.ratio.low, pair.ratio.high))
        assert point[4] == pair.ratio.verdict
        assert point[3].endswith("-open") == pair.a.endswith("(A/A)")
    assert "optimized" in texts_of(figure)
    assert "faster by" in texts_of(figure)
    assert list(figure.layout.yaxis.ticktext) == ["all", "short", "medium"] * 3


def test_the_band_of_equivalence_and_the_line_at_one_are_in_every_run():
    figure = run_plots.forest([show(fast()), show(a_run())])
    bands = shapes(figure, "rect")
    assert [(band.x0, band.x1) for band in bands] == [(pytest.approx(1 / 1.02), 1.02)] * 2
    assert sum(line.x0 == line.x1 == 1 for line in shapes(figure)) == 2
    assert {band.layer for band in bands} == {"below"}


def test_an_interval_without_an_end_is_dotted_from_edge_to_edge_and_in_words():
    figure = run_plots.forest([show(synthetic_run("baseline,optimized", "short", rounds=3))])
    assert {trace.name for trace in figure.data} == {"undecided"}
    assert not any(figure.data[0].error_x.array)
    dotted = [line for line in shapes(figure) if line.line.dash == "dot"]
    assert len(dotted) == 2
    low, high = (10**end for end in figure.layout.xaxis.range)
    assert all((line.x0, line.x1) == (pytest.approx(low), pytest.approx(high)) for line in dotted)
    assert "(too few blocks)" in texts_of(figure)
    assert math.isfinite(low)
    assert math.isfinite(high)


def test_an_outlier_in_one_run_does_not_flatten_the_others():
    wide = synthetic_run("baseline,optimized", times={"baseline": 10, "optimized": 500})
    narrow = run_plots.forest([show(a_run()), show(wide)]).layout
    assert np.ptp(narrow.xaxis.range) < np.ptp(narrow.xaxis2.range) / 3
    assert 1 in narrow.xaxis.tickvals
    assert 1 in narrow.xaxis2.tickvals


def test_where_one_text_set_is_left_the_forest_names_it():
    figure = run_plots.forest([show(fast(), sets=("short",))])
    assert set(figure.layout.yaxis.ticktext) == {"short"}


def test_a_chosen_reference_is_what_the_forest_compares_with():
    shown = show(fast())
    other = ShownRun(shown.view, shown.labels, "optimized", shown.title, shown.note)
    text = texts_of(run_plots.forest([other]))
    assert "faster than optimized" in text
    assert "slower by" in text


# --- costs


def test_stages_add_up_to_the_mean_time():
    shown = show(fast())
    figure = run_plots.stages([shown])
    assert [trace.name for trace in figure.data] == ["reference", "text", "sampler", "vocoder", "transfer", "other"]
    totals = np.sum([trace.x for trace in figure.data], axis=0)
    means = [shown.view.counted[shown.view.counted["label"] == label]["total_ms"].mean() for label in shown.labels]
    np.testing.assert_allclose(totals, means, rtol=1e-3)


def test_the_first_call_is_shown_in_parts_and_against_the_same_when_warm():
    shown = show(fast(), sets=("medium",))  # the first utterance was of the other set, and is shown all the same
    start, compiling, rest, warm = run_plots.first_calls([shown]).data
    for place, call in enumerate(shown.view.starts):
        assert start.x[place] == call.start_s
        assert compiling.x[place] + rest.x[place] == pytest.approx(call.first_ms / 1000)
        assert warm.x[place] == pytest.approx(call.warm_ms / 1000)
        assert rest.x[place] > warm.x[place]


def test_bars_of_very_different_runs_have_their_own_scale():
    slow = synthetic_run("baseline,optimized", times={"baseline": 5000, "optimized": 4900})
    layout = run_plots.stages([show(a_run()), show(slow)]).layout
    assert layout.xaxis.range[1] < layout.xaxis2.range[1] / 4
    same = run_plots.memory([show(a_run()), show(slow)]).layout
    assert same.xaxis.range == same.xaxis2.range


# --- samples


def test_time_against_length_has_the_fitted_line_and_its_figures_in_words():
    shown = show(synthetic_run("baseline", "short,medium", 30, times={"baseline": 50}, noise=0.005))
    points, line, *_ = run_plots.lengths([shown]).data
    fit = shown.view.fit("baseline")
    assert len(points.x) == len(shown.view.values("baseline"))
    assert next(iter(line.x)) == 0
    assert line.y[0] == pytest.approx(fit.fixed.value)
    assert (line.y[1] - line.y[0]) / line.x[1] == pytest.approx(fit.slope.value)
    assert f"{fit.fixed.value:.1f} (" in texts_of(run_plots.lengths([shown]))
    assert "ms/s" in texts_of(run_plots.lengths([shown]))


def test_one_length_alone_has_no_line():
    run = synthetic_run("baseline", "extended")
    figure = run_plots.lengths([show(run)])
    assert {trace.mode for trace in figure.data} == {"markers"}
    assert "one length only" in texts_of(figure)


def test_the_timeline_shows_clocks_throttling_invalid_samples_warm_ups_and_launches():
    run = synthetic_run("baseline,optimized", rounds=20, on=CARD, launches=2)
    run = changed(run, invalid={"30": ["silent"], "40": ["silent"]})
    shown = show(run)
    figure = run_plots.timeline([shown])
    frame = shown.view.frame
    named = {trace.name: trace for trace in figure.data}
    lost = named["does not count"]
    np.testing.assert_allclose(sorted(lost.y), sorted(frame.loc[[30, 40], "rtf"]))
    held = named["the card held back (throttled)"]
    assert len(held.x) == frame["throttled"].sum() > 0
    assert len({lost.marker.symbol, held.marker.symbol, *(trace.marker.symbol for trace in figure.data if trace.mode == "markers")}) >= 4
    assert set(named["Processor clock of the card"].y) == {1980}
    assert set(named["Temperature"].y) == {45}
    warm = next(trace for name, trace in named.items() if name.startswith("warm-up"))
    assert len(warm.x) == frame["warm_up"].sum()
    assert "launch 2" in texts_of(figure)
    assert "3 beyond the scale" in texts_of(figure)  # the first utterance of each process
    boundary = next(shape.x0 for shape in shapes(figure))
    launches = frame[~frame["warm_up"]].groupby("launch")["at_s"]
    assert launches.max()[0] < boundary < launches.min()[1]


def test_without_a_card_the_timeline_shows_how_busy_the_processor_was():
    names = [trace.name for trace in run_plots.timeline([show(a_run())]).data]
    assert "Processor in use, by anybody" in names
    assert "Temperature" not in names


@pytest.mark.parametrize("name", ["violin", "ecdf", "lengths", "timeline"])
def test_a_long_run_is_thinned_to_3000_points_and_says_so(name):
    run = synthetic_run("baseline,optimized", "short,medium", 280)
    shown = [show(run), show(a_run())]
    figure = DRAW[name](shown)
    points = sum(len(trace.x) for trace in figure.data if trace.type == "violin" or (trace.mode == "markers") or name == "ecdf")
    assert points <= look.MOST_POINTS + 20  # of the timeline: marks lie on samples
    assert "samples are drawn." in texts_of(figure)
    assert "samples are drawn." not in texts_of(DRAW[name]([show(a_run())]))
    extremes = run.samples.total_ms
    drawn = {round(float(y), 6) for trace in figure.data if name == "lengths" and trace.mode == "markers" for y in trace.y}
    counted = show(run).view.counted["total_ms"]
    assert name != "lengths" or {round(counted.min(), 6), round(counted.max(), 6)} <= drawn
    assert len(extremes) > look.MOST_POINTS


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=300), st.integers(4, 60), st.data())
@settings(deadline=None)
def test_thinning_keeps_extremes_order_and_marked_samples(values, most, data):
    array = np.array(values)
    drawn, ranks = look.ordered(array, most)
    assert drawn.size == min(array.size, most)
    assert (drawn[0], drawn[-1]) == (array.min(), array.max())
    assert np.all(np.diff(ranks) > 0)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=array.size, max_size=array.size)))
    places = chosen(array, keep, most)
    assert places.size <= most or places.size == array.size
    assert np.all(np.diff(places) > 0)
    assert {array[places].min(), array[places].max()} == {array.min(), array.max()}
    if keep.sum() <= min(most // 2, most - 4):
        assert set(np.flatnonzero(keep)) <= set(places)


@given(st.lists(st.integers(0, 5000), max_size=40), st.integers(1, 5000))
def test_shares_never_exceed_what_is_there_and_fill_the_figure(sizes, most):
    limits = look.shares(sizes, most)
    assert all(limit <= size for limit, size in zip(limits, sizes, strict=True))
    assert sum(limits) <= max(most, 5 * len(sizes))
    assert sum(sizes) > most or limits == sizes


@given(st.floats(1e-5, 1e5), st.floats(1.0001, 1e4))
def test_a_logarithmic_axis_has_round_ticks_inside_it(low, factor):
    ticks = look.log_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 7
    assert ticks == sorted(ticks)


# --- the view behind the figures


def test_a_view_narrowed_to_a_text_set_knows_only_that_set():
    whole, part = View(fast()), View(fast(), sets=("short",))
    assert part.sets == ["short"]
    assert set(part.counted["set"]) == {"short"}
    assert part.pair("optimized", "baseline").ratio == whole.pair("optimized", "baseline", "short").ratio
    assert part.summary("baseline") == whole.summary("baseline", "short")
    assert [call.first_ms for call in part.starts] == [call.first_ms for call in whole.starts]


def test_a_view_narrowed_to_a_card_that_is_not_there_is_empty():
    part = View(fast(), cards=("another card",))
    assert part.counted.empty
    assert part.pairs() == []
    assert part.summary("baseline") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_ms": 0.0}, "took no time"),
        ({"total_ms": 1e300}, "larger than any measurement"),
        ({"frames": 10**30}, "larger than any measurement"),
    ],
)
def test_a_run_that_says_what_cannot_be_true_is_refused(change, message):
    run = a_run()
    name, value = next(iter(change.items()))
    with pytest.raises(CannotShow, match=message):
        View(changed(run, **{name: [value] * len(run.samples)}))


def test_a_run_of_too_many_samples_is_refused():
    run = a_run()
    many = 20_001
    whole = document(run)
    columns = whole["samples"]
    columns["stages_ms"] = {name: [1.0] * many for name in columns["stages_ms"]}
    for name, column in columns.items():
        if isinstance(column, list):
            columns[name] = column[-1:] * many
    with pytest.raises(CannotShow, match="20,001 samples"):
        View(Run.model_validate_json(json.dumps(whole)))


def test_views_are_kept_and_the_oldest_go_first():
    views, made = Views(most=2), []

    def make():
        made.append(1)
        return View(a_run())

    first = views.get("a", make)
    assert views.get("a", make) is first
    views.get("b", make)
    views.get("a", make)
    views.get("c", make)  # b goes
    assert views.get("a", make) is first
    assert len(views) == 2
    views.get("b", make)
    assert len(made) == 4


def test_runs_are_told_apart_by_letters():
    assert short_names(["a card"]) == ["a card"]
    names = short_names(["a card"] * 30)
    assert names[0] == "A · a card"
    assert names[-1] == "AD · a card"
    assert len(set(names)) == 30


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=20)
def test_no_title_can_open_a_tag(label):
    text = texts_of(run_plots.memory([show(a_run(), label)]))
    assert plain_label(label) in text
    assert "<script" not in text
