"""Training of the Vocos on the corpus, with the discriminators and losses of the vocos package, weighted as its own experiment weights them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.audio import SAMPLE_RATE
from lab.demo_voice.bank import HELD_OUT
from lab.demo_voice.corpus import has_parts, parts, parts_planned
from lab.demo_voice.graphs import Graphs
from lab.demo_voice.model import VOCODER_CONFIG, vocoder
from lab.demo_voice.processes import Process, plain

EXPORT = "vocoder.safetensors"
_LOG_EVERY = 50
#: Weights of the losses: `VocosExp(mel_loss_coeff=45, mrd_loss_coeff=0.1)` of vocos' configs.
_MEL, _RESOLUTION = 45.0, 0.1
_BETAS = (0.8, 0.9)
#: What the discriminators look at: every so many samples, and spectra of so many; vocos' own.
PERIODS, WINDOWS = (2, 3, 5, 7, 11), (2048, 1024, 512)


@dataclass(frozen=True)
class VocoderSettings:
    """What decides the training of the vocoder, beside the corpus.

    Attributes:
        corpus: Its folder.
        parts: So many parts of each speaker are read; 0 for all.
        config: The architecture, in the shape of vocos' configs.
        steps: All of them; the rate falls over them along half a wave of a cosine.
        batch: Segments of one process' batch.
        segment: Samples of each.
        rate: Learning rate at the start, of generator and discriminators.
        alone: Share of the steps before the discriminators join.
        louder_db, quieter_db: Every segment gets a gain between these, in dB.
        look_every: Steps after which it looks whether it has to stop.
        captured: Capture the steps as CUDA graphs (on one card).
    """

    corpus: Path
    steps: int
    parts: int = 0
    config: Path = VOCODER_CONFIG
    batch: int = 16
    segment: int = 16_384
    rate: float = 5e-4
    alone: float = 0.05
    louder_db: float = 3.0
    quieter_db: float = -12.0
    seed: int = 0
    save_minutes: float = 3.0
    look_every: int = 20
    captured: bool = True

    @property
    def fixed(self) -> dict[str, Any]:
        """What a training that goes on must have in common with the one that was stopped."""
        left = ("corpus", "parts", "config", "save_minutes", "look_every", "captured")
        return {name: value for name, value in asdict(self).items() if name not in left}


def _halved(device: torch.device) -> AbstractContextManager[Any]:
    """BF16 on a card: the discriminators are most of the work, and their opinion need not be exact. Without the cache of casts, to be captured."""
    return torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False) if device.type == "cuda" else nullcontext()


class _Adversaries(torch.nn.Module):
    """Both discriminators of vocos, and how well they tell."""

    def __init__(self) -> None:
        super().__init__()
        from vocos.discriminators import MultiPeriodDiscriminator, MultiResolutionDiscriminator
        from vocos.loss import DiscriminatorLoss, FeatureMatchingLoss, GeneratorLoss

        self.periods, self.resolutions = MultiPeriodDiscriminator(PERIODS), MultiResolutionDiscriminator(WINDOWS)
        self._discriminator, self._generator, self._features = DiscriminatorLoss(), GeneratorLoss(), FeatureMatchingLoss()

    def forward(self, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """Their own loss."""
        total: Any = 0.0
        for judge, weight in ((self.periods, 1.0), (self.resolutions, _RESOLUTION)):
            with _halved(real.device):
                says_real, says_made, _, _ = judge(y=real, y_hat=made)
            loss, each, _ = self._discriminator(disc_real_outputs=says_real, disc_generated_outputs=says_made)
            total = total + weight * loss / len(each)
        return total.sum()  # type: ignore[no-any-return]

    def fooled(self, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """The generator's loss: how well it is told apart, and how far the features are."""
        total: Any = 0.0
        for judge, weight in ((self.periods, 1.0), (self.resolutions, _RESOLUTION)):
            with _halved(real.device):
                _, says_made, features_real, features_made = judge(y=real, y_hat=made)
            loss, each = self._generator(disc_outputs=says_made)
            matching = self._features(fmap_r=features_real, fmap_g=features_made) / len(features_real)
            total = total + weight * (loss / len(each) + matching)
        return total.sum()  # type: ignore[no-any-return]


class _Generator(torch.nn.Module):
    """The vocoder with gradients: its own `forward` runs under `inference_mode` in part."""

    def __init__(self, of: Any) -> None:
        super().__init__()
        self.vocoder = of
        of.head.istft.forward = self._inverse

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Analyse and synthesise (batch, samples)."""
        with torch.no_grad():
            features = self.vocoder.feature_extractor(samples)
        return self.vocoder.head(self.vocoder.backbone(features))  # type: ignore[no-any-return]

    def _inverse(self, spectrum: torch.Tensor) -> torch.Tensor:
        inverse = self.vocoder.head.istft
        return overlap_added(spectrum, inverse.window, inverse.hop_length)


def overlap_added(spectrum: torch.Tensor, window: torch.Tensor, hop: int) -> torch.Tensor:
    """What `torch.istft(spectrum, len(window), hop, window=window, center=True)` gives, without waiting for the device.

    Args:
        spectrum: (batch, frequencies, frames) complex.
        window: (fft,).
        hop: Samples from one frame to the next.

    Returns:
        (batch, samples), as many as (frames - 1) times `hop`.
    """
    size = len(window)
    length = (spectrum.shape[2] - 1) * hop + size
    frames = torch.fft.irfft(spectrum, size, dim=1) * window[None, :, None]
    squares = window.square()[None, :, None].expand(1, size, spectrum.shape[2])
    added, weights = (
        torch.nn.functional.fold(values, (1, length), (1, size), stride=(1, hop))[:, 0, 0, size // 2 : length - size // 2]
        for values in (frames, squares)
    )
    return added / weights


class _Round:
    """What happens in every step. `mel` adds up the distance of the mel spectrograms.

    Args:
        modules: Generator and adversaries.
        wrapped: The same, with gradients averaged over processes.
        samples: (all samples,) int16 on the device.
    """

    def __init__(
        self, modules: Sequence[Any], wrapped: Sequence[Any], optimizers: Sequence[Any], samples: torch.Tensor, of: VocoderSettings
    ):
        from vocos.loss import MelSpecReconstructionLoss

        (self._generator, self._adversaries), (self._generate, self._judge) = modules, wrapped
        self._optimizers, self._samples, self._settings = optimizers, samples, of
        self._distance = MelSpecReconstructionLoss(sample_rate=SAMPLE_RATE).to(samples.device)
        self.mel = torch.zeros((), device=samples.device)

    def go(self, judged: bool) -> None:
        """One step, with the adversaries or without."""
        real = _segments(self._samples, self._settings)
        made = self._generate(real)
        distance = self._distance(made, real)
        loss = _MEL * distance
        if judged:
            self._optimizers[1].zero_grad(set_to_none=False)
            self._judge(real, made.detach()).backward()
            self._optimizers[1].step()
            self._adversaries.requires_grad_(False)
            loss = loss + self._adversaries.fooled(real, made)
            self._adversaries.requires_grad_(True)
        self._optimizers[0].zero_grad(set_to_none=False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._generator.parameters(), 1.0)
        self._optimizers[0].step()
        self.mel.add_(distance.detach())


def train(process: Process, settings: VocoderSettings) -> None:
    """One process of the training; see `lab.demo_voice.processes.run`.

    Raises:
        TrainingError: the folder has a training with other settings.
    """
    torch.backends.cudnn.benchmark = True
    with process.ready(settings.seed):
        _train(process, settings)


def _train(process: Process, settings: VocoderSettings) -> None:
    on_card = process.device.type == "cuda"
    planned = parts_planned(settings.corpus, settings.parts)
    if not process.waited(partial(has_parts, settings.corpus, settings.parts or planned)):
        return
    modules = _Generator(vocoder(settings.config)).to(process.device), _Adversaries().to(process.device)
    rate = torch.tensor(settings.rate, device=process.device)
    optimizers = [torch.optim.AdamW(module.parameters(), rate.clone(), betas=_BETAS, fused=True, capturable=on_card) for module in modules]
    if state := process.resumed(settings.fixed, optimizers):
        for module, values in zip(modules, state["modules"], strict=True):
            module.load_state_dict(values)
    step = int(state.get("step", 0))
    wrapped = [process.wrapped(module) for module in modules]
    each = _Round(modules, wrapped, optimizers, _samples(settings).to(process.device), settings)
    graphs = Graphs(settings.captured and on_card and process.world == 1)
    minutes_at_save, since = 0.0, step
    while step < settings.steps:
        torch.manual_seed(process.number(settings.seed, step))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"].fill_(settings.rate * (0.02 + 0.98 * (1 + math.cos(math.pi * step / settings.steps)) / 2))
        judged = step >= settings.alone * settings.steps
        graphs.run(judged, partial(each.go, judged))
        step += 1
        if step % _LOG_EVERY == 0 or step == settings.steps:
            process.log(step, mel=float(each.mel) / (step - since))
            each.mel.zero_()
            since = step
        if step % settings.look_every == 0:
            if process.ending():
                break
            if process.minutes_passed() - minutes_at_save > settings.save_minutes:
                minutes_at_save = process.minutes_passed()
                _save(process, settings, step, modules, optimizers)
    _save(process, settings, step, modules, optimizers)


def _samples(settings: VocoderSettings) -> torch.Tensor:
    """(all samples,) int16 of the corpus, without the utterances that are held out."""
    read = parts(settings.corpus, settings.parts)
    return torch.from_numpy(np.concatenate([part.samples[: part.starts[max(0, len(part.texts) - HELD_OUT)]] for part in read]))


def _segments(samples: torch.Tensor, settings: VocoderSettings) -> torch.Tensor:
    starts = torch.randint(0, len(samples) - settings.segment, (settings.batch, 1), device=samples.device)
    cut = samples[starts + torch.arange(settings.segment, device=samples.device)].float() / 32767
    gain = torch.empty(settings.batch, 1, device=samples.device).uniform_(settings.quieter_db, settings.louder_db)
    return (cut * 10 ** (gain / 20)).clamp(-0.99, 0.99)


def _save(process: Process, settings: VocoderSettings, step: int, modules: Sequence[torch.nn.Module], optimizers: Sequence[Any]) -> None:
    if not process.first:
        return
    states = [plain(module) for module in modules]
    process.save(settings.fixed, step=step, modules=states, optimizers=[optimizer.state_dict() for optimizer in optimizers])
    mine = {name.removeprefix("vocoder."): value for name, value in states[0].items()}
    exported = {name: value.half().contiguous() if value.is_floating_point() else value for name, value in mine.items()}
    process.export(EXPORT, exported, step, settings.seed)
