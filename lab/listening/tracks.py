"""Staircases of a whole study: each listener's threshold in words, the one in the middle, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.listening.staircase import TARGET
from lab.listening.statistics import binomial
from lab.listening.statistics.thresholds import LEAST_REVERSALS, Threshold, cannot_tell_easiest, threshold
from lab.listening.verdicts import Decision, Finding

NO_ANYTIME = "Looked at before the study was over: for a staircase no anytime-valid figure exists, so that there is no verdict."


@dataclass(frozen=True)
class Track:
    """One listener's staircase."""

    listener: int
    history: tuple[tuple[int, bool], ...]
    threshold: Threshold
    words: str

    @property
    def rank(self) -> float:
        """Place of the threshold on the ladder's index; beyond its ends for a ceiling or a floor, NaN where it is not known."""
        found = self.threshold
        return {"ceiling": -math.inf, "floor": math.inf, "too short": math.nan}.get(
            found.state, found.place if found.place is not None else math.nan
        )


def read(histories: Mapping[int, tuple[tuple[int, bool], ...]], finished: Mapping[int, bool], ladder: Sequence[int]) -> list[Track]:
    """The track of each listener; `finished` says whose is over."""
    made = []
    for listener, history in histories.items():
        found = threshold(history, ladder, over=finished.get(listener, False))
        made.append(Track(listener, history, found, _words(found, ladder)))
    return made


def _words(found: Threshold, ladder: Sequence[int]) -> str:
    if found.state == "ceiling":
        return f"tells even NFE {ladder[0]} from the reference"
    if found.state == "floor":
        return f"cannot tell even NFE {ladder[-1]} from the reference"
    if found.state == "too short" or found.place is None:
        return f"too few reversals for a threshold ({len(found.reversals)} of at least {LEAST_REVERSALS})"
    hard, easy = ladder[math.floor(found.place)], ladder[min(math.floor(found.place) + 1, len(ladder) - 1)]
    where = f"near NFE {hard}" if found.place == math.floor(found.place) or hard == easy else f"between NFE {hard} and NFE {easy}"
    return f"threshold {where} (NFE {found.nfe:.1f}, standard error {found.se:.1f} steps of the ladder)"


def median_track(tracks: Sequence[Track]) -> Track | None:
    """The listener in the middle; of two in the middle the one who hears more. None without a threshold."""
    there = sorted((track for track in tracks if not math.isnan(track.rank)), key=lambda track: track.rank)
    return there[(len(there) - 1) // 2] if there else None


def judge(tracks: Sequence[Track], ladder: Sequence[int], decision: Decision) -> Finding:
    """The verdict over all listeners.

    Different where the listener in the middle has a threshold on the ladder or hears even its hardest level. Equivalent where that listener is at the floor
    and all listeners' answers at the easiest level together are bounded below the threshold's own 70.7 % (one-sided 95 % Clopper-Pearson). Undecided
    otherwise, and where half of the tracks or more are too short.
    """
    n = sum(len(track.history) for track in tracks)
    counts = {state: sum(track.threshold.state == state for track in tracks) for state in ("inside", "floor", "ceiling", "too short")}
    if not n:
        return Finding("undecided", "no answer yet", 0, counts=counts)
    middle = median_track(tracks)
    estimate = middle.threshold.nfe if middle else None
    if decision == "anytime":
        return Finding("undecided", f"{len(tracks)} tracks, {n} answers", n, estimate, counts=counts, notes=(NO_ANYTIME,))
    if middle is None or 2 * counts["too short"] >= len(tracks):
        short = f"{counts['too short']} of {len(tracks)} tracks have too few reversals"
        return Finding("undecided", short, n, estimate, counts=counts)
    who = "the listener" if len(tracks) == 1 else "the listener in the middle"
    if middle.threshold.state != "floor":
        words = middle.words.replace("threshold", "has a threshold", 1)
        return Finding("different", f"{who} {words}", n, estimate, counts=counts)
    right = sum(track.threshold.right_at_easiest for track in tracks)
    trials = sum(track.threshold.trials_at_easiest for track in tracks)
    bound, easiest = binomial.upper_bound(right, trials), f"NFE {ladder[-1]}"
    said = f"{who} {middle.words}; {right} of {trials} answers at {easiest} are right"
    if cannot_tell_easiest(right, trials):
        lead = f"{said}, at most {bound:.1%} with 95 % confidence"
        return Finding("equivalent", lead, n, estimate, bound=bound, counts=counts)
    more = None
    if trials and right / trials < TARGET:
        more = binomial.more_trials(right / trials, trials, lambda k, total: binomial.upper_bound(k, total) < TARGET)
    need = f", about {more} more there needed" if more else ""
    return Finding(
        "undecided", f"{said}, which may yet be up to {bound:.1%}{need}", n, estimate, bound=bound, counts=counts, more_trials=more
    )


def document(tracks: Sequence[Track], ladder: Sequence[int]) -> dict[str, Any]:
    """The tracks for JSON."""
    middle = median_track(tracks)
    return {
        "ladder": list(ladder),
        "tracks": [
            {
                "listener": track.listener,
                "levels": [level for level, _ in track.history],
                "right": [right for _, right in track.history],
                "reversals": list(track.threshold.reversals),
                "state": track.threshold.state,
                "threshold_nfe": None if track.threshold.nfe is None else round(track.threshold.nfe, 3),
                "threshold_place": None if track.threshold.place is None else round(track.threshold.place, 3),
                "standard_error_places": None if track.threshold.se is None else round(track.threshold.se, 3),
                "words": track.words,
            }
            for track in tracks
        ],
        "median": None if middle is None else {"state": middle.threshold.state, "nfe": middle.threshold.nfe, "words": middle.words},
    }
