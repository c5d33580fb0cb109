"""Training sequences shaped like inference: utterances of one speaker one after the other, as a reference is followed by what is to be said.

A row is a list of places in the bank of mel frames, exactly as long as its batch asks for, so that nothing is padded. Where each sound is should follow from
the text, as far as it can, because all that does not is noise to learn through: the last utterance is chosen to fill the row, what is between two is always
the same, and all have one pace, but for the first, which may have the usual one, as a reference has. Which utterances meet is drawn from (seed, rank, step)
alone, so that a training that was stopped goes on with the rows it would have had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lab.demo_voice.sentences import CHARACTERS

#: Frames of a row, and how often each comes: upstream plans chunks of up to 22 s (2,064 frames), reference included.
LENGTHS = {640: 0.35, 1024: 0.4, 2080: 0.25}
#: The bank's first frame is silence.
SILENCE = 0
_GAP = 5  # frames of silence between two utterances: the 0.05 s that upstream appends to a reference
_SHORT_CHARACTERS = 10  # below, upstream plans a third of the usual speed (`infer_batch_process`), and silence has to fill the rest
_SHORT_SHARE = 0.12  # of rows end with such a text
_LAST = 0.5  # how often an utterance is chosen because it fills the row
_NATURAL = 0.5  # how often a row begins at the usual pace, as a reference does, whatever the pace of the rest

_INDEX = {symbol: number for number, symbol in enumerate(CHARACTERS)}


class Batch(NamedTuple):
    """`frames` (batch, length) int64 places in the bank; `text` (batch, characters) int64, -1 behind the end."""

    frames: torch.Tensor
    text: torch.Tensor


@dataclass(frozen=True)
class Utterances:
    """The utterances of one speaker at one pace, by length.

    Attributes:
        starts: (n,) where each begins in the bank of frames.
        lengths: (n,) frames of each, ascending.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    texts: Sequence[str]
    short: NDArray[np.int64]  # those that upstream would give more time than they need

    @classmethod
    def of(cls, starts: NDArray[np.int64], lengths: NDArray[np.int64], texts: Sequence[str]) -> Utterances:
        """Sorted by length."""
        order = np.argsort(lengths, kind="stable")
        sorted_texts = [texts[index] for index in order]
        short = np.flatnonzero([len(text) < _SHORT_CHARACTERS for text in sorted_texts])
        return cls(starts[order], lengths[order], sorted_texts, short)


def _row(first: Utterances, rest: Utterances, length: int, draw: np.random.Generator) -> tuple[NDArray[np.int64], str]:
    """Places in the bank (length,), and the text; `first` are those that can begin it."""
    places = np.full(length, SILENCE, np.int64)
    texts: list[str] = []
    end = length
    last = -1
    if len(rest.short) and draw.random() < _SHORT_SHARE:
        last = int(draw.choice(rest.short))
        end = max(0, length - int(rest.lengths[last] * draw.uniform(2.0, 3.6)))  # its speech and the silence behind it
    position = 0
    spoken = first
    while (chosen := _chosen(spoken, end - position, draw)) is not None:
        position = _place(places, spoken, chosen, position) + _GAP
        texts.append(spoken.texts[chosen])
        spoken = rest
    if last >= 0:
        _place(places, rest, last, min(position, end))
        texts.append(rest.texts[last])
    return places, " ".join(texts)


def _chosen(spoken: Utterances, room: int, draw: np.random.Generator) -> int | None:
    """One that fits into so many frames: one of the longest, or any that leaves room for another one; None where nothing fits."""
    fits = int(np.searchsorted(spoken.lengths, room, side="right"))
    if fits == 0:
        return None
    before = int(np.searchsorted(spoken.lengths, room - _GAP - spoken.lengths[0], side="right"))
    if before and (room > spoken.lengths[-1] or draw.random() >= _LAST):
        return int(draw.integers(before))
    return int(draw.integers(np.searchsorted(spoken.lengths, spoken.lengths[fits - 1] - 1), fits))


def _place(places: NDArray[np.int64], spoken: Utterances, chosen: int, position: int) -> int:
    count = int(spoken.lengths[chosen])
    places[position : position + count] = np.arange(count) + spoken.starts[chosen]
    return position + count


class Rows(Dataset[Batch]):
    """Batch number `step` of one process; all rows of a batch have one length.

    Args:
        speakers: What each speaker said at each pace, at the usual one first.
        frames: Frames of a batch, about: rows times length.
        seed: With `rank` and the step, decides everything.
    """

    def __init__(self, speakers: Sequence[Sequence[Utterances]], frames: int, seed: int, rank: int, steps: int) -> None:
        self._speakers = speakers
        self._frames = frames
        self._seed = seed
        self._rank = rank
        self._steps = steps
        counts = [np.array([len(spoken.texts) for spoken in paces]) for paces in speakers]
        self._shares = [count / count.sum() for count in counts]

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of that step."""
        # the length is that of all processes, so that none waits for another
        length = int(np.random.default_rng((self._seed, step)).choice(list(LENGTHS), p=list(LENGTHS.values())))
        draw = np.random.default_rng((self._seed, step, self._rank + 1))
        made = [self._drawn(length, draw) for _ in range(max(1, self._frames // length))]
        longest = max(len(text) for _, text in made)
        text = np.full((len(made), longest), -1, np.int64)
        for index, (_, said) in enumerate(made):
            text[index, : len(said)] = [_INDEX[symbol] for symbol in said]
        return Batch(torch.from_numpy(np.stack([places for places, _ in made])), torch.from_numpy(text))

    def _drawn(self, length: int, draw: np.random.Generator) -> tuple[NDArray[np.int64], str]:
        who = int(draw.integers(len(self._speakers)))
        paces = self._speakers[who]
        rest = paces[int(draw.choice(len(paces), p=self._shares[who]))]
        return _row(paces[0] if draw.random() < _NATURAL else rest, rest, length, draw)
