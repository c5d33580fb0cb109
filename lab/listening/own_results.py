"""What a listener is told of their own answers at the end. While the study is open nothing that could guide another listener: no configuration, no text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lab.listening.design import is_correct
from lab.listening.judgements import judgements
from lab.listening.model import StoredSession, StoredStudy, StoredTrial


def own_results(study: StoredStudy, session: StoredSession, verdict: str = "") -> list[str]:
    """Sentences for the listener of `session`; with `verdict`, that of a study that is closed, what all of them found too."""
    counted = [trial for trial in session.trials if trial.presentation.kind == "main" and trial.rating]
    if not counted:
        return []
    said = _preferred(study, session) if study.manifest.type in ("ab", "ccr") else _SAYING[study.manifest.type](counted)
    if verdict:
        said.append(f"The study is closed. What all listeners together found: {verdict}")
    return said


def _told_apart(trials: Sequence[StoredTrial]) -> list[str]:
    right = sum(map(is_correct, trials))
    return [f"You told X in {right} of {len(trials)} trials. By guessing one gets about {len(trials) / 2:g}."]


def _preferred(study: StoredStudy, session: StoredSession) -> list[str]:
    """How many pairs, and how often their two orders were answered alike."""
    middle = 0.5 if study.manifest.type == "ab" else 0.0
    favoured: dict[int, list[float]] = {}  # pair -> which system each answer favours: 1, -1, or 0 for neither
    for one in judgements(study.manifest, session):
        if one.kind == "main":
            favoured.setdefault(one.unit, []).append(float(np.sign(one.value - middle)))
    answers = [sign for found in favoured.values() for sign in found]
    none = answers.count(0)
    said = [f"You answered {len(answers)} pairs" + (f", and heard no difference worth a choice in {none} of them." if none else ".")]
    pairs = [found[:2] for found in favoured.values() if len(found) > 1]
    if pairs:
        same = sum(first == second for first, second in pairs)
        said.append(f"Each pair came twice, the other way round: you answered {same} of {len(pairs)} alike.")
    return said


def _rated(trials: Sequence[StoredTrial]) -> list[str]:
    given = [trial.rating.answer for trial in trials if trial.rating is not None and isinstance(trial.rating.answer, int)]
    return [f"You rated {len(given)} clips, on average {sum(given) / len(given):.1f} of 5."]


def _found_reference(trials: Sequence[StoredTrial]) -> list[str]:
    found = 0
    for trial in trials:
        reference = trial.presentation.slots[0]
        for label, slot in list(zip(trial.presentation.labels, trial.presentation.slots, strict=True))[1:]:
            if slot == reference and trial.rating is not None and isinstance(trial.rating.answer, dict):
                found += trial.rating.answer[label] >= 90
    return [f"One of the clips was the reference itself: you gave it 90 points or more in {found} of {len(trials)} trials."]


_SAYING: dict[str, Callable[[Sequence[StoredTrial]], list[str]]] = {
    "abx": _told_apart,
    "staircase": _told_apart,
    "acr": _rated,
    "mushra": _found_reference,
}
