from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.plan import AA_SUFFIX, blocks, make_plan, start_order
from lab.config import REGISTRY, parse_list
from lab.errors import LabError
from tests import runs

plans = st.builds(
    lambda names, texts, rounds, launches, seed: runs.plan(
        ",".join(names), ",".join(texts), rounds, launches=min(launches, rounds), seed=seed
    ),
    st.lists(st.sampled_from(sorted(REGISTRY)), min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from(["short", "medium", "long", "extended", "mixed", "birch"]), min_size=1, max_size=3, unique=True),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(0, 1000),
)


@given(plans)
def test_every_block_has_every_arm_twice_in_an_order_and_its_mirror_image(plan):
    for block in blocks(plan):
        half = len(plan.arms)
        assert sorted(block.order[:half]) == list(range(half))
        assert block.order[half:] == block.order[:half][::-1]


@given(plans)
def test_a_linear_drift_meets_every_arm_of_a_block_alike(plan):
    for block in blocks(plan):
        places = [sum(place for place, arm in enumerate(block.order) if arm == index) for index in range(len(plan.arms))]
        assert len(set(places)) == 1


@given(plans)
def test_a_round_has_one_block_for_each_text_set_and_its_texts_take_turns(plan):
    made = list(blocks(plan))
    assert [block.number for block in made] == list(range(plan.rounds * len(plan.sets)))
    for round_ in range(plan.rounds):
        assert sorted(plan.texts[block.text].set for block in made if block.round == round_) == sorted(plan.sets)
    for name in plan.sets:
        used = Counter(block.text for block in made if plan.texts[block.text].set == name)
        counts = [used.get(index, 0) for index, text in enumerate(plan.texts) if text.set == name]
        assert max(counts) - min(counts) <= 1


@given(plans)
def test_launches_follow_one_another_and_share_the_rounds_evenly(plan):
    launches = [block.launch for block in blocks(plan)]
    assert launches == sorted(launches)
    rounds = Counter({launch: len({block.round for block in blocks(plan) if block.launch == launch}) for launch in launches})
    assert len(rounds) == plan.launches
    assert max(rounds.values()) - min(rounds.values()) <= 1


@given(plans)
def test_over_two_launches_every_arm_is_started_as_early_as_any_other(plan):
    for launch in range(0, 6, 2):
        first, second = start_order(plan, launch), start_order(plan, launch + 1)
        assert sorted(first) == list(range(len(plan.arms)))
        assert {first.index(arm) + second.index(arm) for arm in first} == {len(first) - 1}


def test_the_order_of_starts_is_random_from_one_pair_of_launches_to_the_next():
    plan = runs.plan("baseline,fp16-vocoder,no-empty-cache,optimized")
    assert len({tuple(start_order(plan, launch)) for launch in range(0, 12, 2)}) > 3
    assert start_order(plan, 0) != start_order(runs.plan("baseline,fp16-vocoder,no-empty-cache,optimized", seed=2), 0)


@given(plans)
def test_the_same_plan_gives_the_same_schedule(plan):
    assert list(blocks(plan)) == list(blocks(plan))


def test_the_order_is_random_and_depends_on_the_seed():
    orders = {block.order for block in blocks(runs.plan(rounds=40))}
    assert len(orders) == 6  # three arms: all permutations come up
    assert list(blocks(runs.plan(seed=1))) != list(blocks(runs.plan(seed=2)))


def test_the_noise_changes_with_the_round_and_is_the_same_within_a_block():
    assert [block.seed for block in blocks(runs.plan(rounds=3, texts="short"))] == [1, 2, 3]


def test_the_reference_has_a_twin_in_a_process_of_its_own():
    plan = runs.plan("optimized,baseline")
    assert [(arm.label, arm.instance) for arm in plan.arms] == [("optimized", 0), ("optimized" + AA_SUFFIX, 1), ("baseline", 0)]


def test_the_number_of_renders_counts_warm_ups_bursts_and_mirror_images():
    assert runs.plan("baseline,optimized", "short", 5, warmup=2, concurrency=3).renders == 2 * 3 * 2 + 5 * 2 * 3 * 3


@pytest.mark.parametrize(
    "settings",
    [
        {"rounds": 0},
        {"warmup": -1},
        {"launches": 0},
        {"launches": 11},
        {"concurrency": 0},
        {"concurrency": 65},
        {"seed": -1},
        {"rounds": 10_001},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(settings):
    with pytest.raises(LabError, match=next(iter(settings))):
        runs.plan(**{"rounds": 10, **settings})


def test_a_plan_without_a_configuration_or_a_text_is_refused():
    with pytest.raises(LabError, match="needs a configuration"):
        make_plan((), runs.plan().texts)
    with pytest.raises(LabError, match="and a text"):
        make_plan(parse_list("baseline"), ())
