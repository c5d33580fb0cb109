"""The staircase over numbers of function evaluations (NFE): which level comes next, and where it turned. Knows no audio, no sessions and no scipy.

Transformed up-down rule of Levitt 1971 ("Transformed up-down methods in psychoacoustics", JASA 49): two right answers at a level in a row make it
harder, one wrong answer makes it easier. It comes to rest where p² = 1/2, at 70.7 % right.
"""

from __future__ import annotations

from collections.abc import Sequence

#: From the hardest to tell from the reference to the easiest.
LADDER = (32, 16, 12, 10, 8, 7, 6, 5, 4)
MOST_REVERSALS = 8
MOST_TRIALS = 40
TARGET = 0.5**0.5  # share of right answers at the threshold


def next_level(history: Sequence[tuple[int, bool]], ladder: Sequence[int] = LADDER, *, most: int = MOST_TRIALS) -> int | None:
    """The level to ask next after `history` of (level, right?), or None when the track is over: after 8 reversals, or `most` trials.

    `ladder` runs from the hardest level to the easiest, with which a track begins. Only answers that count belong into `history`. Raises `ValueError` for
    a level that is not on the ladder.
    """
    if len(history) >= most:
        return None
    place, turned = _walk(history, ladder)
    return None if len(turned) >= MOST_REVERSALS else ladder[place]


def reversals(history: Sequence[tuple[int, bool]], ladder: Sequence[int] = LADDER) -> tuple[int, ...]:
    """The levels at which the track turned from easier to harder or back, in order."""
    return _walk(history, ladder)[1]


def _walk(history: Sequence[tuple[int, bool]], ladder: Sequence[int]) -> tuple[int, tuple[int, ...]]:
    """Where the track stands (a place on the ladder) and the levels at which it turned.

    A step beyond an end of the ladder is not taken but keeps its direction: it is where the listener's answers point.
    """
    if not ladder:
        raise ValueError("a staircase needs a ladder")
    place, run, direction = len(ladder) - 1, 0, 0
    turned: list[int] = []
    for level, right in history:
        if level not in ladder:
            raise ValueError(f"level {level} is not on the ladder")
        if ladder.index(level) != place:  # what was asked is what counts, also where it was not what the rule had said
            place, run = ladder.index(level), 0
        run = run + 1 if right else 0
        if right and run < 2:
            continue
        step = -1 if right else 1
        if direction and step != direction:
            turned.append(level)
        direction, run = step, 0
        place = min(max(place + step, 0), len(ladder) - 1)
    return place, tuple(turned)
