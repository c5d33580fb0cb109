"""Studies and sessions without a store, a server or audio: listeners are functions that answer a presentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from lab.listening.model import (
    MARGINS,
    Answer,
    ConfigFacts,
    Manifest,
    Presentation,
    Stimulus,
    StoredRating,
    StoredSession,
    StoredStudy,
    StoredTrial,
    TestType,
    Text,
    Unit,
)
from lab.listening.staircase import LADDER, next_level

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = START + timedelta(days=9)
Respond = Callable[[Manifest, Unit, Presentation, np.random.Generator], Answer]


def study(
    kind: TestType, *names: str, texts: int = 8, margin: float | None = None, peeked: bool = False, is_open: bool = False, trials: int = 16
) -> StoredStudy:
    """A study of "ref" against `names`; closed unless `is_open`."""
    systems = ("ref", *(names or ("other",)))
    stimuli: list[Stimulus] = []

    def clip(config: str, role: Any, text: int) -> int:
        number = len(stimuli)
        facts = {"gain_db": 0.0, "lufs": -23.0, "peak_dbfs": -3.0, "seconds": 2.0, "seed": 1, "source_sha256": f"{number:064x}"}
        stimuli.append(Stimulus(sha256=f"{number:064x}", config=config, role=role, text=text, **facts))
        return number

    units: list[Unit] = []
    for text in range(texts):
        places = {name: clip(name, "system", text) for name in systems}
        seed, low, middle = (clip("ref", role, text) for role in ("other seed", "anchor 3.5 kHz", "anchor 7 kHz"))
        reference = places["ref"]
        if kind == "acr":
            units += [Unit(kind="main", text=text, stimuli=(place,)) for place in places.values()]
            units += [Unit(kind="yardstick", text=text, stimuli=(seed,)), Unit(kind="catch", text=text, stimuli=(low,), expects="a")]
        elif kind == "mushra":
            units.append(Unit(kind="main", text=text, stimuli=(reference, *places.values(), seed, low, middle)))
        elif kind == "staircase":
            units += [Unit(kind="main", text=text, stimuli=(reference, places[systems[1]]), level=level) for level in LADDER]
        else:
            units += [Unit(kind="main", text=text, stimuli=(reference, places[name]), comparison=name) for name in systems[1:]]
            units.append(Unit(kind="catch", text=text, stimuli=(reference, low), expects="a"))
            units.append(Unit(kind="catch", text=text, stimuli=(reference, reference), expects="same"))
            units.append(Unit(kind="yardstick", text=text, stimuli=(reference, seed)))
        units.append(units[0].model_copy(update={"kind": "practice"}))
    manifest = Manifest(
        type=kind,
        title="A study",
        created_at=START,
        margin=MARGINS[kind] if margin is None else margin,
        trials=trials,
        configs=tuple(ConfigFacts(name=name, digest="0", settings={}) for name in systems),
        texts=tuple(Text(id=f"t{text}", text="Words.") for text in range(texts)),
        stimuli=tuple(stimuli),
        units=tuple(units),
        gate={},
        voice="v",
        weights="demo",
        device="cpu",
        seed=1,
        other_seed=2,
        versions={},
    )
    return StoredStudy("token", manifest, "0" * 64, "00", None, None if is_open else LATER, START if peeked else None)


def shown(manifest: Manifest, place: int, *, flip: bool, x: str = "A", rng: np.random.Generator) -> Presentation:
    """A unit as a listener gets it."""
    unit = manifest.units[place]
    if manifest.type == "acr":
        return Presentation(unit=place, kind=unit.kind, labels=("1",), slots=unit.stimuli)
    if manifest.type == "mushra":
        rated = [int(slot) for slot in rng.permutation(unit.stimuli[1:])]
        return Presentation(unit=place, kind=unit.kind, labels=("Reference", *"ABCDEFGHI"[: len(rated)]), slots=(unit.stimuli[0], *rated))
    slots = unit.stimuli[::-1] if flip else unit.stimuli
    if manifest.type in ("ab", "ccr"):
        return Presentation(unit=place, kind=unit.kind, labels=("A", "B"), slots=slots)
    return Presentation(unit=place, kind=unit.kind, labels=("A", "B", "X"), slots=(*slots, slots["AB".index(x)]), x=x)


def session(
    of: StoredStudy, number: int, respond: Respond, *, seed: int = 0, most: int | None = None, events: Sequence[Any] = ()
) -> StoredSession:
    """Listener `number` answers one practice trial, every main unit (ab and ccr in both orders), two catches of each kind and all yardsticks.

    Only the first `most` trials are answered. A staircase is followed until it is over.
    """
    manifest = of.manifest
    rng = np.random.default_rng((seed, number))
    by_kind = {
        kind: [place for place, unit in enumerate(manifest.units) if unit.kind == kind]
        for kind in ("practice", "main", "catch", "yardstick")
    }
    trials: list[StoredTrial] = []

    def ask(place: int, *, flip: bool) -> Answer | None:
        presentation = shown(manifest, place, flip=flip, x="AB"[int(rng.integers(2))], rng=rng)
        rating = None
        if most is None or len(trials) < most:
            answer = respond(manifest, manifest.units[place], presentation, rng)
            rating = StoredRating(answer, {}, 6.0, "", 0, START + timedelta(seconds=60 * len(trials) + number))
        trials.append(StoredTrial(len(trials), presentation, rating))
        return rating.answer if rating else None

    ask(by_kind["practice"][0], flip=False)
    if manifest.type == "staircase":
        history: list[tuple[int, bool]] = []
        while (level := next_level(history, most=manifest.trials)) is not None:
            places = [place for place in by_kind["main"] if manifest.units[place].level == level]
            answer = ask(places[len(trials) % len(places)], flip=bool(rng.integers(2)))
            if answer is None:
                break
            history.append((level, answer == trials[-1].presentation.x))
    else:
        both = manifest.type in ("ab", "ccr")
        for place in by_kind["main"]:
            first = bool((place + number) % 2)
            for flip in (first, not first) if both else (first,):
                ask(place, flip=flip)
        expected = {"a": 2, "same": 2}
        for place in by_kind["catch"]:
            if expected[manifest.units[place].expects] > 0:
                expected[manifest.units[place].expects] -= 1
                ask(place, flip=bool(place % 2))
        for place in by_kind["yardstick"]:
            ask(place, flip=bool(place % 2))
    return StoredSession(f"s{number}", of.token, number, START, tuple(trials), tuple(events))


# ---- listeners


def told(chance: float, yardstick: float = 0.5) -> Respond:
    """Of abx and staircase: right with `chance`, in catches always."""

    def respond(manifest: Manifest, unit: Unit, presentation: Presentation, rng: np.random.Generator) -> Answer:
        p = {"catch": 1.0, "yardstick": yardstick}.get(unit.kind, chance)
        return presentation.x if rng.random() < p else "AB".replace(presentation.x, "")

    return respond


def taste(chance: float, none: float = 0.0, yardstick: float = 0.5) -> Respond:
    """Of ab: prefers side b with `chance`, has no preference with chance `none`; recognises catches."""

    def respond(manifest: Manifest, unit: Unit, presentation: Presentation, rng: np.random.Generator) -> Answer:
        straight = presentation.slots[0] == unit.stimuli[0]
        if unit.expects == "same" or (unit.kind == "main" and rng.random() < none):
            return "none"
        p = 0.0 if unit.expects == "a" else yardstick if unit.kind == "yardstick" else chance
        return "B" if (rng.random() < p) == straight else "A"

    return respond


def always(answer: Answer) -> Respond:
    """Gives the same answer to everything."""
    return lambda manifest, unit, presentation, rng: answer


def scores(points: dict[str, float], noise: float = 0.0, who: float = 0.0) -> Respond:
    """Of acr, ccr and mushra: `points` of a system, "seed", "low" and "middle" (of ccr the comparison minus the reference), with noise."""

    def respond(manifest: Manifest, unit: Unit, presentation: Presentation, rng: np.random.Generator) -> Answer:
        least, most = {"acr": (1, 5), "ccr": (-3, 3), "mushra": (0, 100)}[manifest.type]

        def rate(place: int) -> int:
            clip = manifest.stimuli[place]
            name = {"system": clip.config, "other seed": "seed", "anchor 3.5 kHz": "low", "anchor 7 kHz": "middle"}[clip.role]
            return int(np.clip(round(points.get(name, 0.0) + who + rng.normal(0, noise)), least, most))

        if manifest.type == "mushra":
            return {label: rate(slot) for label, slot in zip(presentation.labels, presentation.slots, strict=True) if label != "Reference"}
        if manifest.type == "acr":
            return rate(presentation.slots[0])
        if unit.stimuli[0] == unit.stimuli[1]:
            return 0
        return rate(unit.stimuli[1]) * (1 if presentation.slots[0] == unit.stimuli[0] else -1)

    return respond
