"""The corpus as mel frames on one device, which is all that training reads; it grows while the corpus does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab.audio import HOP
from lab.demo_voice.corpus import PART, Part, part
from lab.demo_voice.rows import Utterances
from lab.demo_voice.synthesizers import PHONES, SPEAKERS

_AT_ONCE = 64  # utterances whose mel is made together
_FRAMES_EACH = 450  # room for an utterance; they have 350 at most, in the mean
#: Utterances at the end of each part that no training sees; the vocoder is judged by them.
HELD_OUT = 2
_NUMBERS = {phone: number for number, phone in enumerate(PHONES)}


class Bank:
    """Mel frames of a corpus' utterances, each made by itself as upstream makes that of a reference.

    Args:
        folder: The corpus, which may be in the making.
        mel_spec: Upstream's `MelSpec`, which turns (batch, samples) into (batch, channels, frames).
        device: Where to.
        most: So many parts of each speaker will be read; room is taken for all of them at once, because captured graphs point into it.

    Attributes:
        mel: (frames, channels) FP16 on the device; the first frame is digital silence.
        phones: (frames,) uint8 on the device: of `PHONES`, which is spoken in each frame.
        parts: So many parts of each speaker are in it.
    """

    def __init__(self, folder: Path, mel_spec: Any, device: torch.device, most: int) -> None:
        silence = mel_spec(torch.zeros(1, 4 * HOP, device=device))[0, :, :1].T.half()
        self.mel = torch.zeros(1 + most * PART * len(SPEAKERS) * _FRAMES_EACH, silence.shape[1], dtype=torch.float16, device=device)
        self.mel[:1] = silence
        self.phones = torch.zeros(len(self.mel), dtype=torch.uint8, device=device)
        self.parts = 0
        self._folder, self._mel_spec, self._count = folder, mel_spec, 1
        self._found: dict[tuple[str, float], tuple[list[int], list[int], list[str]]] = {}

    def grow(self, most: int) -> None:
        """Read on until `most` parts of each speaker are in it; they have to be there."""
        for number in range(self.parts, most):
            for one in part(self._folder, number):
                self._add(one)
        self.parts = max(self.parts, most)

    @property
    def speakers(self) -> list[list[Utterances]]:
        """Where each speaker's utterances at each pace lie in `mel`, those of the first part's pace first."""
        paces: dict[str, list[Utterances]] = {}
        for (name, _), (starts, lengths, texts) in self._found.items():
            paces.setdefault(name, []).append(Utterances.of(np.asarray(starts), np.asarray(lengths), texts))
        return list(paces.values())

    def _add(self, one: Part) -> None:
        starts, lengths, texts = self._found.setdefault((one.speaker, one.pace), ([], [], []))
        samples = torch.from_numpy(np.array(one.samples)).to(self.mel.device)
        bounds = one.starts.tolist()
        order = np.argsort(np.diff(one.starts)[: max(0, len(one.texts) - HELD_OUT)], kind="stable").tolist()
        for first in range(0, len(order), _AT_ONCE):
            chosen = order[first : first + _AT_ONCE]
            for index, mel in zip(chosen, _mels(samples, bounds, chosen, self._mel_spec), strict=True):
                if self._count + len(mel) > len(self.mel):
                    return  # longer utterances than there is room for; the rest of them is left out
                frames = slice(self._count, self._count + len(mel))
                self.mel[frames] = mel
                self.phones[frames] = torch.from_numpy(_phones(one, index, len(mel)))
                starts.append(self._count)
                lengths.append(len(mel))
                texts.append(one.texts[index])
                self._count += len(mel)


def _phones(one: Part, index: int, frames: int) -> NDArray[np.uint8]:
    """(frames,) which phone an utterance has in the middle of each; silence behind the last."""
    numbers = np.array([*(_NUMBERS[phone] for phone in one.phones[index].split()), 0], np.uint8)
    return numbers[np.searchsorted(one.ends[index], np.arange(frames) * HOP, side="right")]


def _mels(samples: torch.Tensor, bounds: list[int], chosen: list[int], mel_spec: Any) -> list[torch.Tensor]:
    """(frames, channels) FP16 for each; what was padded to make them together is cut off again.

    A frame looks half a window beyond the end, where upstream mirrors the signal and here zeros are: the last two frames differ, which are silence.
    """
    lengths = [bounds[index + 1] - bounds[index] for index in chosen]
    batch = torch.zeros(len(chosen), max(lengths) + 1024, device=samples.device)
    for row, index in enumerate(chosen):
        batch[row, : lengths[row]] = samples[bounds[index] : bounds[index + 1]].float() / 32767
    mel = mel_spec(batch).transpose(1, 2).half()
    return [mel[row, : length // HOP + 1] for row, length in enumerate(lengths)]
