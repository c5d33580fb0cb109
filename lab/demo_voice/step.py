"""One step of training, in two halves that nothing has to wait for: gradients of a batch, and the change of the values.

On a card both are captured as CUDA graphs, for each length of rows and for what classifier-free guidance leaves out. Between the halves, the processes of a
training average their gradients, which lie in one piece: hooks like those of `DistributedDataParallel` would not be captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from lab.demo_voice.graphs import Graphs
from lab.demo_voice.listener import Listener

_MOST = 2.0  # times the usual norm of the gradients; what is above is scaled down to it
_USUAL = 0.02  # weight of a step in what is usual


class Dropped(NamedTuple):
    """What `CFM.forward` leaves out of a batch: it draws that itself, from the two probabilities, which are set to certainty."""

    audio: bool
    text: bool


class Heard(NamedTuple):
    """What is learnt beside the flow: the listener to the model, (frames,) phones of the bank, and the weight of its loss."""

    listener: Listener
    phones: torch.Tensor
    weight: float


class _Losses(NamedTuple):
    """What `CFM.forward` takes for the losses of all values: choosing some and their mean, without asking the card how many they are."""

    each: torch.Tensor
    chosen: torch.Tensor | None = None

    def __getitem__(self, chosen: Any) -> Any:
        return _Losses(self.each, chosen)

    def mean(self) -> torch.Tensor:
        assert self.chosen is not None
        return (self.each * self.chosen[..., None]).sum() / (self.chosen.sum() * self.each.shape[-1])


class _Functional:
    @staticmethod
    def mse_loss(made: torch.Tensor, asked: torch.Tensor, reduction: str) -> _Losses:
        return _Losses(torch.nn.functional.mse_loss(made, asked, reduction=reduction))


class _Torch:
    """What `CFM.forward` takes for torch: the times that it draws are uniform ones to a power."""

    def __init__(self, early: float) -> None:
        self._early = early

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def rand(self, *size: Any, **options: Any) -> torch.Tensor:
        return torch.rand(*size, **options) ** self._early


@contextmanager
def without_waiting(early: float = 1.0) -> Iterator[None]:
    """Within it, `CFM.forward` takes every row for full, never waits for a figure from the card, and draws times as u ** `early`.

    Upstream masks what lies behind the end of a row, and chooses the losses of the frames that are to be predicted by their number; both make
    Python wait for the card. Rows of `lab.demo_voice.rows` have nothing behind their end.
    """
    from f5_tts.model import cfm as upstream

    kept = upstream.lens_to_mask, upstream.F, upstream.torch
    upstream.lens_to_mask, upstream.F, upstream.torch = (lambda lens, length: None), _Functional, _Torch(early)
    try:
        yield
    finally:
        upstream.lens_to_mask, upstream.F, upstream.torch = kept


def flow_loss(model: Any, mel: torch.Tensor, text: torch.Tensor, dropped: Dropped, early: float = 1.0) -> torch.Tensor:
    """The loss of `CFM.forward` for rows without padding: mel (batch, frames, channels), text (batch, characters).

    Times are uniform to the power `early`; upstream's own are uniform. The number of frames is given as a scalar on the CPU, which upstream may read
    without waiting.
    """
    kept = model.audio_drop_prob, model.cond_drop_prob
    model.audio_drop_prob, model.cond_drop_prob = float(dropped.audio), float(dropped.text)
    try:
        with without_waiting(early):
            loss, _, _ = model(mel, text=text, lens=torch.tensor(mel.shape[1]))
    finally:
        model.audio_drop_prob, model.cond_drop_prob = kept
    return loss  # type: ignore[no-any-return]


class Step:
    """The halves of a step for one model; the loss adds up in `loss` until it is asked for.

    Args:
        model: Upstream's CFM, in training.
        average: Its averaged copy.
        optimizers: Their learning rates are tensors.
        mel: (frames, channels) the bank that rows point into.
        captured: Capture both halves as CUDA graphs.
        heard: What is learnt beside the flow, if anything is.
        early: Power of the times; see `flow_loss`.

    Attributes:
        usual: Norm of the gradients; 0 before the first.
        phone_loss: What the listener's loss was, when `loss` was asked for last; of steps with a text.
    """

    def __init__(
        self,
        model: Any,
        average: Any,
        optimizers: Sequence[torch.optim.Optimizer],
        mel: torch.Tensor,
        captured: bool,
        heard: Heard | None = None,
        early: float = 1.0,
    ) -> None:
        self._model, self._optimizers, self._mel, self._heard, self._early = model, optimizers, mel, heard, early
        self._parameters, self._averaged = list(model.parameters()), list(average.parameters())
        self._device = mel.device
        self._gradients = _in_one_piece(self._parameters)
        self._decay = torch.zeros((), device=self._device)
        self.usual = torch.zeros((), device=self._device)
        self.phone_loss = 0.0
        self._loss = torch.zeros(3, device=self._device)  # of the flow; the listener's, and of how many steps
        self._losses = 0
        self._inputs: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
        self._graphs = Graphs(captured)

    def gradients(self, places: torch.Tensor, text: torch.Tensor, dropped: Dropped) -> None:
        """Of rows: places in the bank (batch, frames), and their texts (batch, characters), padded with -1."""
        shape = tuple(places.shape)
        if shape not in self._inputs:
            kept = torch.zeros(shape, dtype=torch.long, device=self._device)
            self._inputs[shape] = kept, kept.clone()
        rows, characters = self._inputs[shape]
        rows.copy_(places, non_blocking=True)
        characters.fill_(-1)  # upstream pads a text to the length of its row, or cuts it
        width = min(text.shape[1], shape[1])
        characters[:, :width].copy_(text[:, :width], non_blocking=True)
        self._graphs.run((shape, dropped), lambda: self._backward(rows, characters, dropped))
        self._losses += 1

    def warm_up(self, shapes: Sequence[tuple[int, int]], rank: int) -> None:
        """Compile and capture for all (rows, length) in advance; nothing is changed.

        Each process begins with another shape, and finds what the others have compiled in the cache that all share.
        """
        for index in range(len(shapes)):
            rows, length = shapes[(rank + index) % len(shapes)]
            places, text = torch.zeros(rows, length, dtype=torch.long), torch.zeros(rows, length // 8, dtype=torch.long)
            for dropped in (Dropped(False, False), Dropped(True, False), Dropped(True, True)) * 2:
                self.gradients(places, text, dropped)
        self.loss()

    def _backward(self, rows: torch.Tensor, characters: torch.Tensor, dropped: Dropped) -> None:
        self._gradients.zero_()
        on_card = self._device.type == "cuda"
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False) if on_card else nullcontext():
            loss = flow_loss(self._model, self._mel[rows].float(), characters, dropped, self._early)
            self._loss[0].add_(loss.detach())
            if self._heard and not dropped.text:
                heard = self._heard.listener.loss(self._heard.phones[rows].long())
                self._loss[1].add_(heard.detach())
                self._loss[2].add_(1)
                loss = loss + self._heard.weight * heard
            elif self._heard:
                self._heard.listener.forget()
        loss.backward()

    def share(self) -> None:
        """Average the gradients over the processes."""
        dist.all_reduce(self._gradients)
        self._gradients.div_(dist.get_world_size())

    def change(self, rate: float, decay: float) -> None:
        """Of the values, by all optimisers, at a learning rate times the "share" of a group; the average moves by 1 - `decay`.

        Gradients far above the usual are scaled down, also for optimisers that do not care how large all of them are: one odd batch would else rule the
        momentum for many steps. Those that are no numbers are left out.
        """
        self._decay.fill_(decay)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"].fill_(rate * group.get("share", 1.0))
        self._graphs.run("change", self._update)

    @torch.no_grad()
    def _update(self) -> None:
        norm = torch.linalg.vector_norm(self._gradients)
        limit = torch.where(self.usual > 0, _MOST * self.usual, norm)
        known = torch.isfinite(norm)
        self._gradients.mul_((limit / (norm + 1e-12)).clamp(max=1.0)).masked_fill_(~known, 0.0)
        seen = torch.where(known, torch.minimum(norm, limit), self.usual)
        self.usual.copy_(torch.where(self.usual > 0, self.usual.lerp(seen, _USUAL), seen))
        for optimizer in self._optimizers:
            optimizer.step()
        torch._foreach_mul_(self._averaged, self._decay)
        torch._foreach_add_(self._averaged, torch._foreach_mul(self._parameters, 1 - self._decay))

    def loss(self) -> float:
        """That of the flow; mean since it was asked for last, over all processes."""
        if dist.is_initialized():
            dist.all_reduce(self._loss)
            self._loss.div_(dist.get_world_size())
        flow, phones, listened = (float(value) for value in self._loss.tolist())
        mean = flow / max(1, self._losses)
        self.phone_loss = phones / max(1.0, listened)
        self._loss.zero_()
        self._losses = 0
        return mean

    def changing(self) -> list[torch.Tensor]:
        """Everything that steps change, but for the loss; to be copied, and copied back into."""
        states = [state for optimizer in self._optimizers for state in optimizer.state.values()]
        kept = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
        return [*(one.data for one in (*self._parameters, *self._averaged)), *kept, self.usual]


def _in_one_piece(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """(all values,) of the gradients, which are views of it."""
    whole = torch.zeros(sum(parameter.numel() for parameter in parameters), device=parameters[0].device)
    start = 0
    for parameter in parameters:
        parameter.grad = whole[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return whole
