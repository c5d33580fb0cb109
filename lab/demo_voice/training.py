"""Training of the DiT: upstream's `CFM.forward` on rows of utterances, Muon for the blocks' matrices and AdamW for the rest, and an average of the values.

The rate rises, stays, and falls to nothing over the last part of the steps, so that a training that was stopped can go on, with more steps if need be.
With the same settings, corpus and kind of device, every step draws the same.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Subset

from lab.demo_voice import convolutions
from lab.demo_voice.bank import Bank
from lab.demo_voice.corpus import has_parts, parts_planned
from lab.demo_voice.listener import Listener
from lab.demo_voice.model import CONFIG, cfm, config, exported_state, imported_state
from lab.demo_voice.muon import Muon
from lab.demo_voice.processes import Process, plain
from lab.demo_voice.retreat import Retreat
from lab.demo_voice.rows import LENGTHS, Batch, Rows
from lab.demo_voice.step import Dropped, Heard, Step

_BESIDE_MUON = 0.5  # of the rate
#: What makes scales, shifts and gates of the time: the embedding of the time grows large, so that a change of these values moves every channel of every
#: frame by far more than one of any other does. At the rate of the others they grew without end (scales of 33 after 22,000 steps, of 349 after 49,000).
_OF_TIME = ("time_embed.", "attn_norm.linear.", "norm_out.linear.")
_OF_TIME_SHARE, _OF_TIME_DECAY = 0.1, 0.1
_STAGE = 2_000  # steps between which the bank can grow
EXPORT = "model.safetensors"


@dataclass(frozen=True)
class Settings:
    """What decides a training, beside the corpus.

    Attributes:
        corpus: Its folder.
        config: The architecture, in the shape of upstream's configs.
        parts: So many parts of each speaker are read at first; 0 for all.
        growing: After so many steps, and so many again, one part more is read; 0 for never. A part that is not there yet is waited for.
        steps: All of them; the rate falls towards the last.
        frames: Mel frames of one process' batch.
        rate: Highest learning rate of Muon; AdamW's beside it is half of that, and a tenth for what modulates by time.
        warm_up: Steps in which it rises.
        falling: Share of the steps in which it falls.
        average: Decay of the averaged values, which are what is exported.
        early: Times of the flow are uniform ones to this power. Where a sound begins is decided in the first hundredths, which uniform times hardly ever
            see, and where upstream's sampler takes half of its steps: the cubes fall about where its 16 do.
        listening: Weight of the listener's loss beside that of the flow.
        least_masked: Of a row, at least this share is to be predicted (`CFM(frac_lengths_mask=…)`).
        start: An exported checkpoint to begin with, instead of new values.
        start_steps: Steps that checkpoint has had.
        save_minutes: How often `state.pt` is written.
        look_every: Steps after which it logs, and looks whether it has diverged or has to stop.
        compile: Compile the blocks (on a card).
        captured: Capture the steps as CUDA graphs (on a card).
    """

    corpus: Path
    steps: int
    parts: int = 0
    growing: int = 0
    config: Path = CONFIG
    frames: int = 32_768
    rate: float = 1e-3
    warm_up: int = 400
    falling: float = 0.4
    average: float = 0.999
    early: float = 3.0
    listening: float = 0.5
    least_masked: float = 0.5
    seed: int = 0
    start: Path | None = None
    start_steps: int = 0
    save_minutes: float = 3.0
    look_every: int = 20
    compile: bool = True
    captured: bool = True
    loaders: int = 3

    @property
    def fixed(self) -> dict[str, Any]:
        """What a training that goes on must have in common with the one that was stopped."""
        left = (
            "corpus",
            "parts",
            "growing",
            "config",
            "steps",
            "falling",
            "save_minutes",
            "look_every",
            "compile",
            "captured",
            "loaders",
            "start",
        )
        return {name: value for name, value in asdict(self).items() if name not in left}


def rate_at(step: int, settings: Settings) -> float:
    """Learning rate of a step: a straight rise, a plateau, a straight fall to zero."""
    rise = min(1.0, (step + 1) / settings.warm_up)
    falls_from = settings.steps * (1 - settings.falling)
    fall = (settings.steps - step) / max(1.0, settings.steps - falls_from) if step > falls_from else 1.0
    return settings.rate * rise * max(0.0, fall)


def train(process: Process, settings: Settings) -> None:
    """One process of the training; see `lab.demo_voice.processes.run`.

    Raises:
        TrainingError: the folder has a training with other settings.
    """
    with process.ready(settings.seed):
        _train(process, settings)


def _train(process: Process, settings: Settings) -> None:
    on_card = process.device.type == "cuda"
    model = _model(settings).to(process.device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    convolutions.replace(model.transformer)
    optimizers = _optimizers(model, settings, process.device)
    if state := process.resumed(settings.fixed, optimizers):
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
    at = int(state.get("step", 0))
    planned = parts_planned(settings.corpus, settings.parts)
    data = Bank(settings.corpus, model.mel_spec, process.device, _parts_at(settings.steps, settings, planned))
    if settings.compile and on_card:
        _compile(model)
    model.listener.listen(model.transformer)
    heard = Heard(model.listener, data.phones, settings.listening)
    step = Step(model, average, optimizers, data.mel, settings.captured and on_card, heard, settings.early)
    if on_card:
        step.warm_up([(max(1, settings.frames // length), length) for length in LENGTHS], process.rank)
    step.usual.fill_(state.get("usual", 0.0))
    retreat = Retreat(step.changing, state.get("factor", 1.0))

    def save() -> None:
        _save(process, settings, at, model, average, optimizers, {"usual": float(step.usual), "factor": retreat.factor})

    minutes_at_save = 0.0
    for batch in _batches(data, settings, process, at, planned):
        step.gradients(batch.frames, batch.text, _seeded(process.number(settings.seed, at), model))
        if process.world > 1:
            step.share()
        step.change(rate := rate_at(at, settings) * retreat.factor, min(settings.average, (at + 1) / (at + 10)))
        at += 1
        if at % settings.look_every and at != settings.steps:
            continue
        went_back = retreat.looked(loss := step.loss())
        process.log(
            settings.start_steps + at,
            loss=loss,
            phone_loss=step.phone_loss,
            rate=rate,
            norm=float(step.usual),
            parts=data.parts,
            **({"went_back": 1.0} if went_back else {}),
        )
        if process.ending():
            break
        if process.minutes_passed() - minutes_at_save > settings.save_minutes:
            minutes_at_save = process.minutes_passed()
            save()
    save()


def _parts_at(step: int, settings: Settings, planned: int) -> int:
    """So many parts of each speaker are read at a step."""
    first = settings.parts or planned
    return min(planned, first + step // settings.growing) if settings.growing else first


def _model(settings: Settings) -> Any:
    model = cfm(config(settings.config))
    model.frac_lengths_mask = (settings.least_masked, 1.0)
    if settings.start:
        model.load_state_dict(imported_state(load_file(settings.start)))
    model.listener = Listener(model.transformer.dim)
    return model


def _compile(model: Any) -> None:
    """Each block by itself, for the few lengths that rows have; not their hooks."""
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch._dynamo.config.recompile_limit = 32
    transformer = model.transformer
    for part in (*transformer.transformer_blocks, *transformer.text_embed.text_blocks, transformer.input_embed.conv_pos_embed):
        part.forward = torch.compile(part.forward)


def _optimizers(model: Any, settings: Settings, device: torch.device) -> list[torch.optim.Optimizer]:
    """Muon takes the matrices that mix channels within blocks; modulations, embeddings, convolutions, in- and output are AdamW's."""

    def rate() -> torch.Tensor:  # each group's own, because it is changed in place
        return torch.tensor(settings.rate, device=device)

    matrices, modulations, others = _kinds(model)
    groups = [
        {"params": others, "lr": rate(), "share": _BESIDE_MUON, "weight_decay": 0.01},
        {"params": modulations, "lr": rate(), "share": _OF_TIME_SHARE, "weight_decay": _OF_TIME_DECAY},
    ]
    adamw = torch.optim.AdamW(groups, rate(), betas=(0.9, 0.99), fused=True, capturable=device.type == "cuda")
    return [adamw, Muon(matrices, rate(), weight_decay=0.1)]


def _kinds(model: Any) -> tuple[list[torch.nn.Parameter], ...]:
    """The model's values: matrices for Muon, modulations by time, and all others."""
    kinds: tuple[list[torch.nn.Parameter], ...] = ([], [], [])
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and any(part in name for part in (".attn.", ".ff.", ".pwconv"))
        kinds[0 if matrix else 1 if any(part in name for part in _OF_TIME) else 2].append(parameter)
    return kinds


def _batches(data: Bank, settings: Settings, process: Process, step: int, planned: int) -> Iterator[Batch]:
    """From `step` on, until the last or until the process is to stop; the bank grows between two stages."""
    while step < settings.steps:
        stage = step // _STAGE
        needed = _parts_at(stage * _STAGE, settings, planned)
        if not process.waited(partial(has_parts, settings.corpus, needed)):
            return
        data.grow(needed)
        rows = Rows(data.speakers, settings.frames, settings.seed, process.rank, settings.steps)
        end = min(settings.steps, (stage + 1) * _STAGE)
        yield from DataLoader(
            Subset(rows, range(step, end)),
            batch_size=None,
            num_workers=settings.loaders,
            prefetch_factor=8 if settings.loaders else None,
            pin_memory=process.device.type == "cuda",
            # a spawned loader imports torch for seconds, at each stage, one after the other
            multiprocessing_context="fork" if settings.loaders else None,
        )
        step = end


def _seeded(number: int, model: Any) -> Dropped:
    """Seeds what upstream draws in a step (noise, times and spans, on the device), and draws what is left out as upstream does."""
    torch.manual_seed(number)
    draw = random.Random(number)
    audio, text = draw.random() < model.audio_drop_prob, draw.random() < model.cond_drop_prob
    return Dropped(audio or text, text)


def _save(
    process: Process,
    settings: Settings,
    step: int,
    model: Any,
    average: Any,
    optimizers: list[torch.optim.Optimizer],
    also: dict[str, float],
) -> None:
    if not process.first:
        return
    process.save(
        settings.fixed,
        step=step,
        model=plain(model),
        average=plain(average),
        optimizers=[optimizer.state_dict() for optimizer in optimizers],
        **also,
    )
    process.export(EXPORT, exported_state(plain(average)), settings.start_steps + step, settings.seed)
