"""Post-screening of MUSHRA listeners, as ITU-R BS.1534-3 (2015), section 4.1.2, has it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

GOOD = 90  # a hidden reference under it was not recognised; a mid-range anchor over it was not recognised either
BAD_ITEMS = 15  # per cent of items: more than so many drop the listener
BAD_LISTENERS = 25  # per cent of listeners: more than so many mean that the anchor did little to the item

Scores = Mapping[str, Mapping[Hashable, float]]  # listener -> item -> score


@dataclass(frozen=True)
class Screened:
    """What became of one rule for one listener."""

    listener: str
    rule: str  # "hidden reference" or "mid-range anchor"
    dropped: bool
    available: bool  # False: there was nothing to judge by, which is not a failure
    bad: int = 0
    items: int = 0


def screen(hidden: Scores, middle: Scores) -> list[Screened]:
    """Both rules for every listener in `hidden` or `middle`.

    `hidden`: scores of the hidden reference; under 90 on more than 15 % of the items drops the listener. `middle`: scores of the mid-range (7 kHz) anchor;
    over 90 on more than 15 % of the items does so too, where items on which more than 25 % of the listeners scored it over 90 are not counted.
    """
    scored: dict[Hashable, list[bool]] = {}
    for scores in middle.values():
        for item, score in scores.items():
            scored.setdefault(item, []).append(score > GOOD)
    spared = {item for item, over in scored.items() if 100 * sum(over) > BAD_LISTENERS * len(over)}
    made = []
    for listener in dict.fromkeys([*hidden, *middle]):
        low = [score < GOOD for score in hidden.get(listener, {}).values()]
        high = [score > GOOD for item, score in middle.get(listener, {}).items() if item not in spared]
        made.append(_judged(listener, "hidden reference", low))
        made.append(_judged(listener, "mid-range anchor", high))
    return made


def _judged(listener: str, rule: str, bad: list[bool]) -> Screened:
    return Screened(listener, rule, 100 * sum(bad) > BAD_ITEMS * len(bad), bool(bad), sum(bad), len(bad))
