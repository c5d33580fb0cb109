"""What a listener is told of their own answers at the end. While the study is open nothing that could guide another listener: no configuration, no text."""

from __future__ import annotations

from collections.abc import Sequence

from lab.listening.design import is_correct
from lab.listening.model import StoredSession, StoredStudy, StoredTrial


def own_results(study: StoredStudy, session: StoredSession, verdict: str = "") -> list[str]:
    """Sentences for the listener of `session`; with `verdict`, that of a study that is closed, what all of them found too."""
    counted = [trial for trial in session.trials if trial.presentation.kind == "main" and trial.rating]
    if not counted:
        return []
    said = _SAYING[study.manifest.type](study, counted)
    if verdict:
        said.append(f"The study is closed. What all listeners together found: {verdict}")
    return said


def _told_apart(study: StoredStudy, trials: Sequence[StoredTrial]) -> list[str]:
    right = sum(map(is_correct, trials))
    return [f"You told X in {right} of {len(trials)} trials. By guessing one gets about {len(trials) / 2:g}."]


def _preferred(study: StoredStudy, trials: Sequence[StoredTrial]) -> list[str]:
    said = [f"You answered {len(trials)} pairs"]
    none = sum(trial.rating is not None and trial.rating.answer in ("none", 0) for trial in trials)
    if none:
        said.append(f", and heard no difference worth a choice in {none} of them")
    return ["".join(said) + ".", *_agreed(study, trials)]


def _agreed(study: StoredStudy, trials: Sequence[StoredTrial]) -> list[str]:
    """How often the two orders of a pair were answered alike."""
    answers: dict[int, list[int]] = {}
    for trial in trials:
        if trial.rating is not None:
            unit = study.manifest.units[trial.presentation.unit]
            straight = 1 if trial.presentation.slots[0] == unit.stimuli[0] else -1
            given = trial.rating.answer
            sign = {"A": 1, "B": -1, "none": 0}.get(given, 0) if isinstance(given, str) else -_sign(given)
            answers.setdefault(trial.presentation.unit, []).append(straight * sign)
    pairs = [found[:2] for found in answers.values() if len(found) > 1]
    if not pairs:
        return []
    same = sum(first == second for first, second in pairs)
    return [f"Each pair came twice, the other way round: you answered {same} of {len(pairs)} alike."]


def _sign(value: object) -> int:
    return (value > 0) - (value < 0) if isinstance(value, int) else 0


def _rated(study: StoredStudy, trials: Sequence[StoredTrial]) -> list[str]:
    given = [trial.rating.answer for trial in trials if trial.rating is not None and isinstance(trial.rating.answer, int)]
    return [f"You rated {len(given)} clips, on average {sum(given) / len(given):.1f} of 5."]


def _found_reference(study: StoredStudy, trials: Sequence[StoredTrial]) -> list[str]:
    found = 0
    for trial in trials:
        reference = trial.presentation.slots[0]
        for label, slot in list(zip(trial.presentation.labels, trial.presentation.slots, strict=True))[1:]:
            if slot == reference and trial.rating is not None and isinstance(trial.rating.answer, dict):
                found += trial.rating.answer[label] >= 90
    return [f"One of the clips was the reference itself: you gave it 90 points or more in {found} of {len(trials)} trials."]


_SAYING = {
    "abx": _told_apart,
    "staircase": _told_apart,
    "ab": _preferred,
    "ccr": _preferred,
    "acr": _rated,
    "mushra": _found_reference,
}
