"""Shapes: a length is rounded up to a bucket, so that a bounded number of graphs serves every text; and how work is shared out."""

from __future__ import annotations

from collections.abc import Sequence

MAX_ROWS = 8192  # upstream's text positions end here
MAX_BATCH = 8
_MOST_PARTS = 4  # what joins them reads them one after another
_MOST_ROWS = 24_576  # of all sequences of a batch together: more would not be faster, and needs more memory


def rows_for(frames: int) -> int:
    """The bucket of a sequence of `frames` frames: steps of 64 up to 2,048, of 128 up to 4,096, of 512 beyond.

    Matrix products are cut into tiles, so that time goes up in steps, too: on an H200 all of 1,296 to 1,408 frames take the same within 3 %.
    """
    step = 64 if frames <= 2048 else 128 if frames <= 4096 else 512
    return -(-frames // step) * step


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Which of the sequences are sampled together: positions in `lengths`, longest first, in batches of 8, 4, 2 and 1 that waste little.

    Sizes are powers of two, so that there are few shapes. Sequences share a batch only if the shortest is at least three quarters of the longest:
    padding is computed, too.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    groups: list[list[int]] = []
    while order:
        longest = rows_for(lengths[order[0]])
        alike = sum(lengths[position] * 4 >= lengths[order[0]] * 3 for position in order)
        size = MAX_BATCH
        while size > 1 and (size > alike or size * longest > _MOST_ROWS):
            size //= 2
        groups.append(order[:size])
        order = order[size:]
    return groups


def divided(units: int, multiprocessors: int) -> tuple[int, int]:
    """How many of `units` are taken whole, and into how many parts each of the others is cut, so that all multiprocessors end together.

    They take a unit at a time; what is left when each has had as many as the others would keep a few busy while most wait. It is cut up if there are at
    least two multiprocessors for each.
    """
    rest = units % multiprocessors
    parts = min(_MOST_PARTS, multiprocessors // rest) if rest and units > multiprocessors else 1
    return (units - rest, parts) if parts > 1 else (units, 1)
