"""The corpus as mel frames on one device, which is all that training reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.audio import HOP
from lab.demo_voice.corpus import parts
from lab.demo_voice.rows import Utterances

_AT_ONCE = 64  # utterances whose mel is made together
#: Utterances at the end of each part that no training sees; the vocoder is judged by them.
HELD_OUT = 2


@dataclass(frozen=True)
class Bank:
    """All frames of the corpus.

    Attributes:
        mel: (frames, channels) FP16 on the device; the first frame is digital silence.
        speakers: Where each speaker's utterances lie in it.
    """

    mel: torch.Tensor
    speakers: list[Utterances]


def load(folder: Path, mel_spec: Any, device: torch.device, most: int = 0) -> Bank:
    """Make the mel of every utterance by itself, as upstream makes that of a reference.

    Args:
        folder: The corpus.
        mel_spec: Upstream's `MelSpec`, which turns (batch, samples) into (batch, channels, frames).
        device: Where to.
        most: So many parts of each speaker; 0 for all.
    """
    silence = mel_spec(torch.zeros(1, 4 * HOP, device=device))[0, :, :1].T.half()
    frames, count = [silence], 1
    found: dict[str, tuple[list[int], list[int], list[str]]] = {}
    for part in parts(folder, most):
        starts, lengths, texts = found.setdefault(part.speaker, ([], [], []))
        samples = torch.from_numpy(np.array(part.samples)).to(device)
        bounds = part.starts.tolist()
        order = sorted(range(max(0, len(part.texts) - HELD_OUT)), key=lambda index: bounds[index + 1] - bounds[index])
        for first in range(0, len(order), _AT_ONCE):
            for index, mel in zip(chosen := order[first : first + _AT_ONCE], _mels(samples, bounds, chosen, mel_spec), strict=True):
                starts.append(count)
                lengths.append(len(mel))
                texts.append(part.texts[index])
                frames.append(mel)
                count += len(mel)
    speakers = [Utterances.of(np.asarray(starts), np.asarray(lengths), texts) for starts, lengths, texts in found.values()]
    return Bank(torch.cat(frames), speakers)


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
