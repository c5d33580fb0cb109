"""Training sequences shaped like inference: utterances of one speaker one after the other, as a reference is followed by what is to be said.

A row is a list of places in the bank of mel frames, exactly as long as its batch asks for, so that nothing is padded: what the utterances leave is silence
around them. Which utterances meet is drawn from (seed, rank, step) alone, so that a training that was stopped goes on with the rows it would have had.
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
_LEAST_ROOM = 40  # frames; less is left silent
_GAP_MEAN, _GAP_MOST = 10, 50  # frames of silence between two utterances, beside their own
_SHORT_CHARACTERS = 10  # below, upstream plans a third of the usual speed (`infer_batch_process`), and silence has to fill the rest
_SHORT_SHARE = 0.12  # of rows end with such a text
_FITTING = 0.5  # how often an utterance is chosen because it fills the row

_INDEX = {symbol: number for number, symbol in enumerate(CHARACTERS)}


class Batch(NamedTuple):
    """`frames` (batch, length) int64 places in the bank; `text` (batch, characters) int64, -1 behind the end."""

    frames: torch.Tensor
    text: torch.Tensor


@dataclass(frozen=True)
class Utterances:
    """The utterances of one speaker, by length.

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


def _row(spoken: Utterances, length: int, draw: np.random.Generator) -> tuple[NDArray[np.int64], str]:
    """Places in the bank (length,), and the text."""
    places = np.full(length, SILENCE, np.int64)
    texts: list[str] = []
    end = length
    last = -1
    if len(spoken.short) and draw.random() < _SHORT_SHARE:
        last = int(draw.choice(spoken.short))
        end = max(0, length - int(spoken.lengths[last] * draw.uniform(2.0, 3.6)))  # its speech and the silence behind it
    position = int(draw.integers(0, _GAP_MEAN))
    while (room := end - position) > _LEAST_ROOM:
        fit = int(np.searchsorted(spoken.lengths, room, side="right"))  # so many are not too long
        least = int(np.searchsorted(spoken.lengths, room - _LEAST_ROOM)) if draw.random() < _FITTING else 0
        if fit == 0:
            break
        chosen = int(draw.integers(min(least, fit - 1), fit))
        position = _place(places, spoken, chosen, position)
        texts.append(spoken.texts[chosen])
        position += min(int(draw.exponential(_GAP_MEAN)), _GAP_MOST)
    if last >= 0:
        _place(places, spoken, last, min(position, end))
        texts.append(spoken.texts[last])
    return places, " ".join(texts)


def _place(places: NDArray[np.int64], spoken: Utterances, chosen: int, position: int) -> int:
    count = int(spoken.lengths[chosen])
    places[position : position + count] = np.arange(count) + spoken.starts[chosen]
    return position + count


class Rows(Dataset[Batch]):
    """Batch number `step` of one process; all rows of a batch have one length.

    Args:
        speakers: What each speaker said.
        frames: Frames of a batch, about: rows times length.
        seed: With `rank` and the step, decides everything.
    """

    def __init__(self, speakers: Sequence[Utterances], frames: int, seed: int, rank: int, steps: int) -> None:
        self._speakers = speakers
        self._frames = frames
        self._seed = seed
        self._rank = rank
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        """The batch of that step."""
        # the length is that of all processes, so that none waits for another
        length = int(np.random.default_rng((self._seed, step)).choice(list(LENGTHS), p=list(LENGTHS.values())))
        draw = np.random.default_rng((self._seed, step, self._rank + 1))
        made = [_row(self._speakers[int(draw.integers(len(self._speakers)))], length, draw) for _ in range(max(1, self._frames // length))]
        longest = max(len(text) for _, text in made)
        text = np.full((len(made), longest), -1, np.int64)
        for index, (_, said) in enumerate(made):
            text[index, : len(said)] = [_INDEX[symbol] for symbol in said]
        return Batch(torch.from_numpy(np.stack([places for places, _ in made])), torch.from_numpy(text))
