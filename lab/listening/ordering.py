"""What a person asks for when they make a study, and whether it can be had: checked before anything is rendered. Knows no engine that runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

from lab import texts
from lab.bench.text_sets import choose_texts
from lab.config import EngineConfig
from lab.engine.device import Device, fitness
from lab.engine.weights import Weights
from lab.listening.gate_report import SILENCE_MS
from lab.listening.model import MARGINS, TYPES, StudyError, TestType, Text
from lab.listening.staircase import LADDER
from lab.voices import Voice

MOST_TRIALS = 200
MOST_TEXTS = 50
MOST_SECONDS_MUSHRA = 12.0  # ITU-R BS.1534-3: longer ones cannot be kept in mind
MOST_RATED_MUSHRA = 12  # the same: hidden reference, anchors and the other seed counted
_BESIDE_SYSTEMS = 4  # hidden reference, two anchors, other seed
_MOST_CONFIGS = 6
_MOST_TITLE = 120  # characters
_MOST_SILENCE_MS = 1000.0
#: What a margin is, and between which values (both excluded) it makes sense.
_MARGINS: dict[TestType, tuple[float, float, str]] = {
    "ab": (0.5, 1.0, "a share of preferences"),
    "abx": (0.5, 1.0, "a share of right answers"),
    "acr": (0.0, 4.0, "points on the scale from 1 to 5"),
    "ccr": (0.0, 3.0, "points on the scale from -3 to 3"),
    "mushra": (0.0, 100.0, "points on the scale from 0 to 100"),
}
#: Sentences of two to six seconds with one voice or another, in the order of choice.
_SHORT = ("rice", "birch", "glue", "bread", "garden", "letter", "harbour", "question", "commas", "boat", "kettle", "lamp", "nine", "hello")
_SHORTEST, _LONGEST, _HOW_MANY = 2.0, 6.0, 8
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class StudyOrder:
    """A study as it is asked for; the first configuration is the reference."""

    type: TestType
    configs: tuple[EngineConfig, ...]
    texts: tuple[Text, ...]
    trials: int = 16
    margin: float | None = None  # default: `MARGINS` of the type
    title: str = ""  # for the team; listeners never see it. Default: what is compared
    open_until: datetime | None = None  # aware
    seed: int = 1
    other_seed: int | None = None  # default: the seed after it
    silence_ms: float = SILENCE_MS
    own_results: bool = True  # listeners may see their own results at the end


class Systems(NamedTuple):
    """What is rendered: `reference`, `others` to hold against it, and on which rung of a staircase each stands (by name)."""

    reference: EngineConfig
    others: tuple[EngineConfig, ...]
    levels: dict[str, int]

    @property
    def all(self) -> tuple[EngineConfig, ...]:
        """The reference first."""
        return (self.reference, *self.others)


def systems_of(type: TestType, configs: Sequence[EngineConfig]) -> Systems:
    """The configurations that a study of `type` needs; of a staircase the ladder below one reference, or the rungs that are given.

    Raises:
        StudyError: there are too few, too many, or they are no ladder.
    """
    names = [config.name for config in configs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise StudyError(f"{twice} is named twice. Each configuration is rendered once.")
    if type == "staircase":
        return _ladder(configs)
    most = MOST_RATED_MUSHRA - _BESIDE_SYSTEMS + 1 if type == "mushra" else _MOST_CONFIGS
    if not 2 <= len(configs) <= most:
        why = " (12 clips in a trial, among them the hidden reference, two anchors and another seed)" if type == "mushra" else ""
        raise StudyError(f"A study of type {type} takes 2 to {most} configurations{why}, the reference first; there are {len(configs)}.")
    return Systems(configs[0], tuple(configs[1:]), {})


def _ladder(configs: Sequence[EngineConfig]) -> Systems:
    rungs = ", ".join(map(str, LADDER))
    if not configs:
        raise StudyError("A staircase takes one configuration: the reference, for example golden or upstream.")
    reference = configs[0]
    if reference.nfe < LADDER[0]:
        raise StudyError(f"The reference of a staircase has to have at least {LADDER[0]} steps; {reference.name} has {reference.nfe}.")
    if len(configs) == 1:
        made = [reference.override(nfe=nfe) for nfe in LADDER]
        return Systems(reference, tuple(config for config in made if config != reference), {config.name: config.nfe for config in made})
    levels = [config.nfe for config in configs[1:]]
    if len(set(levels)) < len(levels):
        raise StudyError("The configurations of a staircase have to differ in their number of steps (nfe). Or give the reference alone.")
    own = {reference.name: reference.nfe} if reference.nfe not in levels else {}
    given = {config.name: config.nfe for config in configs[1:]} | own
    if missing := sorted(set(LADDER) - set(given.values()), reverse=True):
        said = ", ".join(map(str, missing))
        raise StudyError(
            f"The staircase goes over {rungs} steps; {said} {'is' if len(missing) == 1 else 'are'} missing. Or give the reference alone."
        )
    if extra := sorted(set(levels) - set(LADDER), reverse=True):
        raise StudyError(f"The staircase goes over {rungs} steps; there is no rung for {', '.join(map(str, extra))}.")
    return Systems(reference, tuple(configs[1:]), {name: nfe for name, nfe in given.items() if nfe in LADDER})


def check_order(order: StudyOrder, voice: Voice, weights: Weights, device: Device, now: datetime | None = None) -> Systems:
    """Refuse what cannot become a study; returns what has to be rendered.

    Raises:
        StudyError: a value makes no sense, or the weights or the device cannot do it.
    """
    if order.type not in TYPES:
        raise StudyError(f"There is no test type {str(order.type)[:40]!r}. There are {', '.join(TYPES)}.")
    if not weights.audible:
        raise StudyError(
            "The audio of random weights is noise for timing: no study can be made of it. Use weights that speak, for example demo."
        )
    systems = systems_of(order.type, order.configs)
    for config in systems.all:
        if refused := fitness(config, device).refused:
            raise StudyError(f"{config.name} cannot run on this device: {refused}.")
    _check_numbers(order)
    _check_title(order.title)
    if order.open_until is not None:
        if order.open_until.tzinfo is None:
            raise StudyError("The time until which a study is open needs a time zone.")
        if order.open_until <= (now or datetime.now(UTC)):
            raise StudyError(f"{order.open_until:%Y-%m-%d %H:%M %Z} is over already. Give a time in the future, or none.")
    _check_texts(order, voice)
    return systems


def _check_numbers(order: StudyOrder) -> None:
    if not 1 <= order.trials <= MOST_TRIALS:
        raise StudyError(f"A listener can be asked 1 to {MOST_TRIALS} questions that count; {order.trials} is outside of that.")
    if not 0 < order.silence_ms <= _MOST_SILENCE_MS:
        raise StudyError(f"The limit for silences has to be above 0 and at most {_MOST_SILENCE_MS:g} ms; it is {order.silence_ms:g}.")
    if other_seed_of(order) == order.seed:
        raise StudyError(f"The other seed has to be another one than the study's seed, which is {order.seed}.")
    if order.margin is None:
        return
    if order.type == "staircase":
        raise StudyError("A staircase looks for a threshold and has no margin: leave it out.")
    low, high, what = _MARGINS[order.type]
    if not low < order.margin < high:
        raise StudyError(f"The margin of a study of type {order.type} is {what}, between {low:g} and {high:g}; {order.margin:g} is not.")


def _check_title(title: str) -> None:
    if len(title) > _MOST_TITLE:
        raise StudyError(f"The title has {len(title)} characters; {_MOST_TITLE} is the most.")
    if not all(character.isprintable() for character in title):
        raise StudyError("The title has characters that cannot be shown. Type it again, on one line.")


def _check_texts(order: StudyOrder, voice: Voice) -> None:
    if not 1 <= len(order.texts) <= MOST_TEXTS:
        raise StudyError(f"A study takes 1 to {MOST_TEXTS} texts; there are {len(order.texts)}.")
    said = [texts.clean(text.text) for text in order.texts]
    if twice := next((text for text in said if said.count(text) > 1), None):
        raise StudyError(f"One text stands there twice: {twice[:60]!r}.")
    if order.type != "mushra":
        return
    for text in order.texts:
        if (seconds := texts.estimate_seconds(texts.clean(text.text), voice.seconds, voice.transcript)) > MOST_SECONDS_MUSHRA:
            raise StudyError(
                f"{text.id} takes {seconds:.1f} s; a clip of a MUSHRA test has at most {MOST_SECONDS_MUSHRA:g} s. Choose shorter texts."
            )


def other_seed_of(order: StudyOrder) -> int:
    """The seed of the yardstick."""
    return order.seed + 1 if order.other_seed is None else order.other_seed


def title_of(order: StudyOrder, systems: Systems) -> str:
    """What the team calls the study."""
    others = "its ladder" if order.type == "staircase" else ", ".join(config.name for config in systems.others)
    return order.title.strip() or f"{systems.reference.name} against {others}"[:_MOST_TITLE]


def margin_of(order: StudyOrder) -> float:
    """The difference that does not matter."""
    return MARGINS[order.type] if order.margin is None else order.margin


# ---- texts and dates as people write them


def choose_study_texts(names: str, voice: Voice) -> tuple[Text, ...]:
    """Texts by id or set (`lab.bench.text_sets.choose_texts`), separated by commas; without a name up to eight short ones for this voice.

    Raises:
        LabError: a name is unknown or stands there twice.
    """
    if not names.strip():
        return _short_texts(voice)[:_HOW_MANY]
    return tuple(Text(id=text.id, text=text.text) for text in choose_texts(names, voice.seconds, voice.transcript))


def texts_of_file(path: Path) -> tuple[Text, ...]:
    """One text per line of a UTF-8 file; empty lines are skipped.

    Raises:
        StudyError: it cannot be read as text, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise StudyError(f"{path} is not UTF-8 text. Save it as plain text.") from None
    found = tuple(Text(id=f"line {number}", text=line.strip()) for number, line in enumerate(lines, 1) if line.strip())
    if not found:
        raise StudyError(f"{path} has no text. Write one sentence per line.")
    return found


def practice_text(chosen: Sequence[Text], voice: Voice) -> Text | None:
    """A short text that is none of `chosen`, for practice."""
    said = {texts.clean(text.text) for text in chosen}
    return next((text for text in _short_texts(voice) if texts.clean(text.text) not in said), None)


def _short_texts(voice: Voice) -> tuple[Text, ...]:
    found = choose_texts(",".join(_SHORT), voice.seconds, voice.transcript)
    fitting = [text for text in found if _SHORTEST <= text.estimated_seconds <= _LONGEST]
    # a voice that is very slow or very quick has few of them: then the nearest to the middle
    nearest = sorted(found, key=lambda text: abs(text.estimated_seconds - (_SHORTEST + _LONGEST) / 2))
    return tuple(Text(id=text.id, text=text.text) for text in dict.fromkeys([*fitting, *nearest]))


def read_open_until(written: str | None, now: datetime | None = None) -> datetime | None:
    """An ISO date or date and time; a bare date means the end of that day in UTC, a time without a zone is UTC. None stays None.

    Raises:
        StudyError: it is no date, or is over.
    """
    if written is None or not written.strip():
        return None
    try:
        if _DAY.fullmatch(written.strip()):
            day = datetime.fromisoformat(written.strip()).date()
            read = datetime.combine(day + timedelta(days=1), time(), UTC)
        else:
            read = datetime.fromisoformat(written.strip())
            read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise StudyError(f"{written[:40]!r} is no date. Write it as 2026-03-01 or 2026-03-01T18:00+01:00.") from None
    if read <= (now or datetime.now(UTC)):
        raise StudyError(f"{written[:40]} is over already. Give a time in the future, or leave it out.")
    return read
