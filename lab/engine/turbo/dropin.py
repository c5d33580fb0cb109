"""Turbo in the place of upstream's objects: `sample` and `decode` take what theirs take, so that upstream's own inference code can use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lab.engine.turbo.buckets import batches
from lab.engine.turbo.engine import Turbo
from lab.engine.turbo.pieces import Piece, Settings


def accelerate(model: Any, vocoder: Any, **options: Any) -> tuple[FastCFM, FastVocos]:
    """A sampler for `model`, upstream's loaded CFM, and a decoder for `vocoder`, its Vocos; `options` are those of `Turbo`.

    Raises:
        UnsupportedModelError: turbo would not compute the same function.
    """
    turbo = Turbo(model, vocoder, **options)
    return FastCFM(turbo), FastVocos(turbo)


class FastVocos:
    """`Vocos.decode`."""

    def __init__(self, turbo: Turbo) -> None:
        self.turbo = turbo

    def decode(self, features: Tensor) -> Tensor:
        """Audio, (batch, (frames - 1) · hop) FP32, of mels, (batch, mel, frames)."""
        samples = (features.shape[-1] - 1) * self.turbo.hop
        return self.turbo.audio(list(features.transpose(1, 2)))[:, :samples].clone()


class FastCFM:
    """`CFM.sample`."""

    def __init__(self, turbo: Turbo) -> None:
        self.turbo = turbo

    def sample(
        self,
        cond: Tensor,
        text: Tensor | list[str],
        duration: int | Tensor,
        *,
        lens: Tensor | None = None,
        steps: int = 32,
        cfg_strength: float = 1.0,
        sway_sampling_coef: float | None = None,
        seed: int | None = None,
        max_duration: int = 65536,
        vocoder: Callable[[Tensor], Tensor] | None = None,
        use_epss: bool = True,
        no_ref_audio: bool = False,
        edit_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Upstream's `CFM.sample`: its arguments, its noise for a seed, its result in its dtype.

        Two things differ. The second result holds the last state alone, (1, batch, frames, mel), instead of the whole trajectory. Sequences of
        different lengths in one batch come out as each would alone, where upstream lets them attend to each other's padding; frames behind a
        sequence's end are zero.

        Raises:
            TooLongError: a sequence is longer than upstream's positions.
        """
        work = (cond, text, duration, lens, seed, max_duration, no_ref_audio, edit_mask)
        settings = Settings(steps, cfg_strength, sway_sampling_coef, use_epss)
        mel, state = self.turbo.owned(self._sample, settings, *work)
        return (mel if vocoder is None else vocoder(mel.permute(0, 2, 1))), state

    def _sample(
        self, settings: Settings, cond: Tensor, text: Any, duration: Any, lens: Any, seed: Any, most: int, silent: bool, edit: Any
    ) -> Any:
        turbo, model = self.turbo, self.turbo.model
        if cond.ndim == 2:
            cond = model.mel_spec(cond).permute(0, 2, 1)
        dtype, device = turbo.flow.dtype, turbo.device
        cond = cond.to(device, dtype)
        batch, longest = cond.shape[:2]
        given = [longest] * batch if lens is None else [int(length) for length in lens]
        ids = turbo.tokens(text)
        wanted = [duration] * batch if isinstance(duration, int) else [int(length) for length in duration]
        frames = [min(max(len(tokens) + 1, known + 1, length), most) for tokens, known, length in zip(ids, given, wanted, strict=True)]
        noise = []
        for length in frames:
            if seed is not None:
                torch.manual_seed(seed)
            noise.append(torch.randn(length, turbo.flow.shape.mel, device=device, dtype=dtype).float())
        pieces = []
        for line in range(batch):
            known = min(given[line], frames[line], longest)
            reference = cond[line, :known].float()
            kept = None if edit is None else edit[line, :known].bool().cpu()
            pieces.append(Piece(torch.zeros_like(reference) if silent else reference, ids[line], frames[line], noise[line], kept))
        out = torch.zeros((batch, max(frames), turbo.flow.shape.mel), device=device, dtype=dtype)
        for group in batches(frames):
            mels = turbo.mels([pieces[line] for line in group], settings)
            for place, line in enumerate(group):
                out[line, : frames[line]] = mels[place, : frames[line]]
        return out, out[None]
