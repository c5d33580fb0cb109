"""Which trials a listener gets: a pure function of the manifest and the listener's number, so that sides and orders are balanced over listeners.

What a listener sees of a trial is decided in `lab.listening.service`; what an answer means in `lab.listening.scoring`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from lab.listening.balance import Sides, balanced_sides, couples, from_round, sides_at, spread, williams_row
from lab.listening.model import Answer, Kind, Manifest, Presentation, StoredTrial, StudyError, Unit
from lab.listening.staircase import next_level

PRACTICE = 2
ONE_IN = 8  # trials that count for each catch and each yardstick
LETTERS = "ABCDEFGHIJKL"
_EXTRA: tuple[Kind, ...] = ("catch", "yardstick")


def plan(manifest: Manifest, number: int) -> tuple[Presentation, ...]:
    """The trials of listener `number` (from 0, in the order of arrival), in order: practice first; of a staircase those that are known beforehand.

    Raises:
        StudyError: the study has nothing to ask.
    """
    main = of_kind(manifest, "main")
    if not main:
        raise StudyError("This study has no question left to ask.")
    rng = random.Random(_seed(manifest, number))
    practice = from_round(of_kind(manifest, "practice"), number, _practice(manifest))
    trials = [_shown(manifest, unit, sides_at(place, number, f"practice {_seed(manifest, number)}")) for place, unit in enumerate(practice)]
    if manifest.type == "staircase":
        first = next_level([])
        return (*trials, _level(manifest, number, 0, first)) if first is not None else tuple(trials)
    made = _MAIN[manifest.type](manifest, number, main, rng)
    extras = [trial for kind in _EXTRA for trial in _extras(manifest, kind, number, rng)]
    rng.shuffle(extras)
    return (*trials, *spread(made, extras, rng))


def following(manifest: Manifest, number: int, trials: Sequence[StoredTrial]) -> Presentation | None:
    """The next trial of a staircase after `trials`, all answered; None when it is over. Every eighth is a catch: reference against its 3.5 kHz anchor."""
    counted = [trial for trial in trials if trial.presentation.kind == "main"]
    history = [(manifest.units[trial.presentation.unit].level, is_correct(trial)) for trial in counted if trial.rating]
    if (level := next_level(history, most=manifest.trials)) is None:
        return None
    asked = sum(trial.presentation.kind != "practice" for trial in trials)
    catches = of_kind(manifest, "catch")
    if catches and asked % (ONE_IN + 1) == ONE_IN:
        return _shown(manifest, catches[(asked + number) % len(catches)], sides_at(asked, number, _seed(manifest, number)))
    return _level(manifest, number, asked, level)


def is_correct(trial: StoredTrial) -> bool:
    """Whether X was told, in a trial that has one and is answered."""
    return trial.rating is not None and trial.rating.answer == trial.presentation.x


def length(manifest: Manifest) -> int:
    """How many trials a listener gets, practice included; of a staircase the most."""
    if manifest.type == "staircase":
        extras = manifest.trials // ONE_IN if of_kind(manifest, "catch") else 0
    else:
        extras = sum(count for kind in _EXTRA for _, count in _extra_units(manifest, kind))
    return _practice(manifest) + manifest.trials + extras


def check_answer(manifest: Manifest, presentation: Presentation, answer: object) -> Answer:
    """`answer` as it is stored.

    Raises:
        StudyError: it is no answer to this question.
    """
    allowed: dict[str, tuple[object, ...]] = {
        "ab": ("A", "B", "none"),
        "abx": ("A", "B"),
        "staircase": ("A", "B"),
        "acr": (1, 2, 3, 4, 5),
        "ccr": (-3, -2, -1, 0, 1, 2, 3),
    }
    if manifest.type == "mushra":
        rated = [label for label in presentation.labels if label != "Reference"]
        if isinstance(answer, dict) and set(answer) == set(rated) and all(type(v) is int and 0 <= v <= 100 for v in answer.values()):
            return {label: int(answer[label]) for label in rated}
        raise StudyError("Move every slider to a place from 0 to 100.")
    if isinstance(answer, str | int) and not isinstance(answer, bool) and answer in allowed[manifest.type]:
        return answer
    raise StudyError("Choose one of the answers.")


def must_hear(manifest: Manifest, presentation: Presentation) -> dict[str, float]:
    """Seconds that each label has to have sounded before its trial can be answered: all of a single clip, two seconds of each of several."""
    seconds = [manifest.stimuli[slot].seconds for slot in presentation.slots]
    most = [max(0.8 * length, length - 0.3) if manifest.type == "acr" else min(2.0, 0.8 * length) for length in seconds]
    return {label: round(needed, 3) for label, needed in zip(presentation.labels, most, strict=True)}


def of_kind(manifest: Manifest, kind: Kind) -> list[int]:
    """Places in `manifest.units` of the units of that kind, those of one text side by side."""
    found = [place for place, unit in enumerate(manifest.units) if unit.kind == kind]
    return sorted(found, key=lambda place: (manifest.units[place].text, place))


def _seed(manifest: Manifest, number: int) -> str:
    return f"{manifest.created_at.isoformat()} {manifest.seed} {number}"


def _shown(manifest: Manifest, place: int, sides: Sides) -> Presentation:
    """The unit at `place` with its sides; one with a single clip or many is shown as it is."""
    unit = manifest.units[place]
    if manifest.type == "acr":
        return Presentation(unit=place, kind=unit.kind, labels=("1",), slots=unit.stimuli)
    if manifest.type == "mushra":
        order = range(len(unit.stimuli) - 1)
        return _rated(place, unit, order[::-1] if sides.flipped else order)
    slots = unit.stimuli[::-1] if sides.flipped else unit.stimuli
    if manifest.type in ("ab", "ccr"):
        return Presentation(unit=place, kind=unit.kind, labels=("A", "B"), slots=slots)
    return Presentation(unit=place, kind=unit.kind, labels=("A", "B", "X"), slots=(*slots, slots["AB".index(sides.x)]), x=sides.x)


def _rated(place: int, unit: Unit, order: Sequence[int]) -> Presentation:
    rated = [unit.stimuli[1 + condition] for condition in order]
    return Presentation(unit=place, kind=unit.kind, labels=("Reference", *LETTERS[: len(rated)]), slots=(unit.stimuli[0], *rated))


def _level(manifest: Manifest, number: int, asked: int, level: int) -> Presentation:
    units = [place for place in of_kind(manifest, "main") if manifest.units[place].level == level]
    if not units:
        raise StudyError("This study has no question left to ask.")
    return _shown(manifest, units[(asked + number) % len(units)], sides_at(asked, number, _seed(manifest, number)))


def _practice(manifest: Manifest) -> int:
    """How many practice trials there are."""
    return PRACTICE if of_kind(manifest, "practice") else 0


def _extra_units(manifest: Manifest, kind: Kind) -> list[tuple[list[int], int]]:
    """Units of catches or yardsticks, and how many a listener gets: one in eight; half as many more identical pairs, which show a bias only."""
    if manifest.type == "mushra":  # hidden reference and anchors stand in every one of its trials
        return []
    units = of_kind(manifest, kind)
    same = [place for place in units if manifest.units[place].expects == "same"]
    others = [place for place in units if place not in same]
    return [(places, max(1, round(manifest.trials / one_in))) for places, one_in in ((others, ONE_IN), (same, 2 * ONE_IN)) if places]


def _extras(manifest: Manifest, kind: Kind, number: int, rng: random.Random) -> list[Presentation]:
    made: list[Presentation] = []
    for places, count in _extra_units(manifest, kind):
        sides = balanced_sides(count, number, rng)
        made += [_shown(manifest, unit, side) for unit, side in zip(from_round(places, number * count, count), sides, strict=True)]
    return made


def _both_orders(manifest: Manifest, number: int, main: list[int], rng: random.Random) -> list[Presentation]:
    trials = couples(manifest.trials, len(main), number * -(-manifest.trials // 2), rng)
    return [_shown(manifest, main[item], Sides(flipped, "A")) for item, flipped in trials]


def _abx(manifest: Manifest, number: int, main: list[int], rng: random.Random) -> list[Presentation]:
    units = from_round(main, number * manifest.trials, manifest.trials)
    rng.shuffle(units)
    sides = balanced_sides(manifest.trials, number, rng)
    return [_shown(manifest, unit, side) for unit, side in zip(units, sides, strict=True)]


def _acr(manifest: Manifest, number: int, main: list[int], rng: random.Random) -> list[Presentation]:
    """Blocks in which every configuration stands once, in the orders of a Williams square, each with another text."""
    by_config: dict[str, dict[int, int]] = {}
    for place in main:
        clip = manifest.stimuli[manifest.units[place].stimuli[0]]
        by_config.setdefault(clip.config, {})[clip.text] = place
    configs = list(by_config)
    made: list[Presentation] = []
    block = 0
    while len(made) < manifest.trials:
        for config in williams_row(len(configs), number + block):
            units = by_config[configs[config]]
            texts = sorted(units)
            made.append(_shown(manifest, units[texts[(block + config + number) % len(texts)]], Sides(False, "A")))
        block += 1
    return made[: manifest.trials]


def _mushra(manifest: Manifest, number: int, main: list[int], rng: random.Random) -> list[Presentation]:
    units = from_round(main, number * manifest.trials, manifest.trials)
    rng.shuffle(units)
    conditions = len(manifest.units[main[0]].stimuli) - 1
    made = []
    for trial, place in enumerate(units):
        unit = manifest.units[place]
        size = len(unit.stimuli) - 1
        row = williams_row(size, number + trial) if size == conditions else rng.sample(range(size), size)
        made.append(_rated(place, unit, row))
    return made


_MAIN = {"ab": _both_orders, "ccr": _both_orders, "abx": _abx, "acr": _acr, "mushra": _mushra}
