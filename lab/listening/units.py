"""Which questions a study of each type can ask: a pure function of the stimuli that came through the gate.

Which of them a listener gets, in which order and on which sides, is decided in `lab.listening.design`. Knows no audio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lab.listening.gate_report import Pair
from lab.listening.model import PAIRED, Role, Stimulus, TestType, Unit

#: Which low-passed copies of the reference a study needs.
ANCHORS_OF: dict[TestType, tuple[Role, ...]] = {
    "ab": ("anchor 3.5 kHz",),
    "abx": ("anchor 3.5 kHz",),
    "acr": ("anchor 3.5 kHz",),
    "ccr": ("anchor 3.5 kHz",),
    "mushra": ("anchor 3.5 kHz", "anchor 7 kHz"),
    "staircase": ("anchor 3.5 kHz",),
}
_LOW: Role = "anchor 3.5 kHz"


@dataclass(frozen=True)
class Material:
    """What a study is made of."""

    type: TestType
    configs: tuple[str, ...]  # that are held against the reference
    stimuli: Sequence[Stimulus]  # text by text, in each the reference first
    pairs: Sequence[Pair]
    levels: dict[str, int] = field(
        default_factory=dict
    )  # of a staircase: configuration -> NFE; the reference too if it is its own top rung
    practice_text: int | None = None  # place of a text that nothing else is asked about


@dataclass(frozen=True)
class _Shelf:
    """The material of one text."""

    text: int
    stimuli: dict[tuple[str, Role], int]
    pairs: tuple[Pair, ...]  # of the study's configurations, that may be asked
    reference: int
    seeded: int | None  # the reference with another seed

    def anchor(self, role: Role) -> int:
        return next(place for (_, found), place in self.stimuli.items() if found == role)


def make_units(material: Material) -> tuple[Unit, ...]:
    """All units of a study, main ones first; without any main unit when nothing can be asked.

    Side a of a pair is the reference. A pair of identical clips is no main unit (but on the ladder of a staircase, whose top it is); it serves as a catch.
    """
    shelves = _shelves(material)
    asked = [shelf for shelf in shelves if shelf.text != material.practice_text]
    main = [unit for shelf in asked for unit in _main(material, shelf)]
    if not main:
        return ()
    catches = [unit for shelf in asked for unit in _catches(material, shelf)]
    yardsticks = [unit for shelf in asked for unit in _yardsticks(material, shelf)]
    return (*main, *catches, *yardsticks, *_practice(material, shelves, main))


def _shelves(material: Material) -> list[_Shelf]:
    made = []
    for text in dict.fromkeys(stimulus.text for stimulus in material.stimuli):
        of_text = {(clip.config, clip.role): place for place, clip in enumerate(material.stimuli) if clip.text == text}
        pairs = tuple(pair for pair in material.pairs if pair.text == text and pair.config in material.configs and pair.asked)
        reference = next(iter(of_text.values()))  # the gate puts it first
        seeded = next((place for (_, role), place in of_text.items() if role == "other seed"), None)
        made.append(_Shelf(text, of_text, pairs, reference, seeded))
    return made


# ---- what counts


def _main(material: Material, shelf: _Shelf) -> Iterator[Unit]:
    if material.type in PAIRED:
        for pair in shelf.pairs:
            if not pair.identical:
                yield Unit(kind="main", text=shelf.text, stimuli=(pair.a, pair.b), comparison=pair.config)
    elif material.type == "acr":
        for place in (shelf.reference, *(pair.b for pair in shelf.pairs)):
            yield Unit(kind="main", text=shelf.text, stimuli=(place,))
    elif material.type == "mushra":
        yield from _rated_together(material, shelf)
    else:
        yield from _rungs(material, shelf)


def _rated_together(material: Material, shelf: _Shelf) -> Iterator[Unit]:
    """One trial with every clip of the text; none where the gate left a configuration out, because all have to stand side by side."""
    if len(shelf.pairs) < len(material.configs):
        return
    seeded = () if shelf.seeded is None else (shelf.seeded,)
    anchors = tuple(shelf.anchor(role) for role in ANCHORS_OF["mushra"])
    rated = (shelf.reference, *(pair.b for pair in shelf.pairs), *seeded, *anchors)
    yield Unit(kind="main", text=shelf.text, stimuli=(shelf.reference, *rated))


def _rungs(material: Material, shelf: _Shelf) -> Iterator[Unit]:
    reference = material.stimuli[shelf.reference].config
    if reference in material.levels:  # the top: telling it from itself is guessing
        yield _rung(shelf, shelf.reference, reference, material.levels[reference])
    for pair in shelf.pairs:
        yield _rung(shelf, pair.b, pair.config, material.levels[pair.config])


def _rung(shelf: _Shelf, place: int, config: str, level: int) -> Unit:
    return Unit(kind="main", text=shelf.text, stimuli=(shelf.reference, place), comparison=config, level=level)


# ---- what keeps an eye on the listener and on the scale


def _catches(material: Material, shelf: _Shelf) -> Iterator[Unit]:
    if material.type == "mushra":
        return  # the hidden reference and the anchors stand in every trial
    low = shelf.anchor(_LOW)
    yield Unit(kind="catch", text=shelf.text, stimuli=(low,) if material.type == "acr" else (shelf.reference, low), expects="a")
    if material.type in ("ab", "ccr"):
        same = next((pair.b for pair in shelf.pairs if pair.identical), shelf.reference)
        yield Unit(kind="catch", text=shelf.text, stimuli=(shelf.reference, same), expects="same")


def _yardsticks(material: Material, shelf: _Shelf) -> Iterator[Unit]:
    if material.type in ("mushra", "staircase") or shelf.seeded is None:
        return
    yield Unit(kind="yardstick", text=shelf.text, stimuli=(shelf.seeded,) if material.type == "acr" else (shelf.reference, shelf.seeded))


# ---- what does not count


def _practice(material: Material, shelves: Sequence[_Shelf], main: Sequence[Unit]) -> Iterator[Unit]:
    """An easy trial and one like those that follow; on the text that is for practice, if it came through, otherwise on the last one."""
    shelf = next((shelf for shelf in shelves if shelf.text == material.practice_text), shelves[-1])
    if material.type == "mushra":
        yield _as_practice(next(_rated_together(material, shelf), main[-1]))
        return
    low = shelf.anchor(_LOW)
    if material.type == "acr":
        yield Unit(kind="practice", text=shelf.text, stimuli=(shelf.reference,))
        yield Unit(kind="practice", text=shelf.text, stimuli=(low,))
        return
    yield Unit(kind="practice", text=shelf.text, stimuli=(shelf.reference, low))
    typical = [pair for pair in shelf.pairs if not pair.identical]
    if typical:
        pair = min(typical, key=lambda pair: material.levels.get(pair.config, 0))  # of a staircase the easiest level
        level = material.levels.get(pair.config, 0)
        yield Unit(kind="practice", text=shelf.text, stimuli=(pair.a, pair.b), comparison=pair.config, level=level)
    else:
        yield _as_practice(min(main, key=lambda unit: unit.level))


def _as_practice(unit: Unit) -> Unit:
    """The same question, for practice."""
    return unit.model_copy(update={"kind": "practice"})


def pruned(stimuli: Sequence[Stimulus], units: Sequence[Unit]) -> tuple[tuple[Stimulus, ...], tuple[Unit, ...]]:
    """The stimuli that a unit needs, and the units with the places that these then have."""
    used = sorted({place for unit in units for place in unit.stimuli})
    place_of = {old: new for new, old in enumerate(used)}
    moved = tuple(unit.model_copy(update={"stimuli": tuple(place_of[place] for place in unit.stimuli)}) for unit in units)
    return tuple(stimuli[place] for place in used), moved
