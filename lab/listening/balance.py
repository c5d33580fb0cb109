"""In which order and on which sides things are presented, so that neither can be mistaken for a difference. Pure combinatorics; knows no studies.

Source of the squares: E. J. Williams, "Experimental designs balanced for the estimation of residual effects of treatments", 1949: over all rows every
condition stands in every place, and follows every other condition, equally often.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class Sides(NamedTuple):
    """How a pair is shown: `flipped` when its first side is shown as B, and which label X repeats (where there is an X)."""

    flipped: bool
    x: str


_SIDES = (Sides(False, "A"), Sides(True, "B"), Sides(False, "B"), Sides(True, "A"))


def williams_row(size: int, row: int) -> list[int]:
    """Row `row` (any integer, taken round) of the Williams square of `size` conditions: an order of 0 … size-1."""
    first = [0]
    for step in range(1, size):
        first.append((first[-1] + (step if step % 2 else -step)) % size)
    rows = size if size % 2 == 0 else 2 * size  # an odd number of conditions needs every order backwards, too
    row %= rows
    shifted = [(condition + row) % size for condition in first]
    return shifted if row < size else shifted[::-1]


def balanced_sides(count: int, offset: int, rng: random.Random) -> list[Sides]:
    """`count` ways to show a pair and its X: all four equally often, in random order; what is left over starts at `offset`, which goes round the listeners."""
    made = [_SIDES[(offset + place) % len(_SIDES)] for place in range(count)]
    rng.shuffle(made)
    return made


def sides_at(place: int, offset: int, seed: str) -> Sides:
    """The sides of the `place`-th trial of a series without an end: blocks of eight, each balanced and in an order of its own."""
    block, within = divmod(place, 2 * len(_SIDES))
    return balanced_sides(2 * len(_SIDES), offset, random.Random(f"{seed}/{block}"))[within]


def from_round(items: Sequence[_T], start: int, count: int) -> list[_T]:
    """`count` of `items`, from `start` on and round again."""
    return [items[(start + place) % len(items)] for place in range(count)]


def couples(count: int, items: int, start: int, rng: random.Random) -> list[tuple[int, bool]]:
    """`count` trials of (item, flipped): each item is asked in both orders, far apart, and which order comes first alternates over items and listeners.

    `items` of them are taken from `start` on. A listener with more trials than two per item begins again; an odd last one is asked once.
    """
    made: list[tuple[int, bool]] = []
    turn = start
    while len(made) < count:
        wanted = min(items, -(-(count - len(made)) // 2))
        chosen = [(turn + place) % items for place in range(wanted)]
        # which order first: alternates over the items, and for one item every time it comes round
        first = [(item, bool((item + (turn + place) // items) % 2)) for place, item in enumerate(chosen)]
        rng.shuffle(first)
        second = [(item, not flipped) for item, flipped in first]
        rng.shuffle(second)
        if len(second) > 1 and second[0][0] == first[-1][0]:
            second.append(second.pop(0))
        made += (first + second)[: count - len(made)]
        turn += wanted
    return made


def spread(main: Sequence[_T], extras: Sequence[_T], rng: random.Random) -> list[_T]:
    """`extras` put among `main`, one in each equal part of it at a random place, never as the first."""
    made = list(main)
    width = len(main) / max(1, len(extras))
    places = [
        max(1, rng.randint(int(part * width) + 1, max(int(part * width) + 1, int((part + 1) * width)))) for part in range(len(extras))
    ]
    for place, extra in sorted(zip(places, extras, strict=True), key=lambda pair: pair[0], reverse=True):
        made.insert(min(place, len(made)), extra)
    return made
