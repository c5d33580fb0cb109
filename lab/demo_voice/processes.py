"""Training in one process per card: starting them, following what they log, stopping them, and what they save.

Every training has a folder: `log.jsonl` (a line for every so many steps), `state.pt` (everything that is needed to go on, replaced whole), and what it
exports. With one card, or on a CPU, there is one process and no communication.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from lab.demo_voice.graphs import beside_the_default_stream
from lab.durable import write_whole
from lab.engine.compat import prepare_imports
from lab.engine.process import Cancel, Progress
from lab.errors import LabError

_POLL_SECONDS = 0.5
_STATE = "state.pt"


class TrainingError(LabError):
    """A training cannot be started, or has failed."""


@dataclass
class Process:
    """One process of a training, as it sees itself."""

    folder: Path
    rank: int
    world: int
    device: torch.device
    stop: Any  # an event of multiprocessing
    minutes: float | None
    _began: float = field(default_factory=time.monotonic)

    @property
    def first(self) -> bool:
        """Whether this is the one that logs and saves."""
        return self.rank == 0

    def minutes_passed(self) -> float:
        """Since this process began."""
        return (time.monotonic() - self._began) / 60

    def ending(self) -> bool:
        """Whether to stop after this step: asked to, or the time is over. All processes get one answer, that of the first; call it in step."""
        return bool(self._agreed(float(self._over())))

    def waited(self, there: Callable[[], bool]) -> bool:
        """Wait until there is what the first process looks for; false when it is to stop instead. Call it in step."""
        while not (word := self._agreed(1.0 if there() else 2.0 * self._over())):
            time.sleep(_POLL_SECONDS)
        return word == 1.0

    def _over(self) -> bool:
        return self.stop.is_set() or (self.minutes is not None and self.minutes_passed() > self.minutes)

    def _agreed(self, word: float) -> float:
        if self.world == 1:
            return word
        shared = torch.tensor([word], device=self.device)
        dist.broadcast(shared, 0)
        return float(shared.item())

    @contextmanager
    def ready(self, seed: int) -> Iterator[None]:
        """What every training begins with: upstream can be imported, new values come from `seed`, TF32 is allowed, and a card has a stream of its own."""
        prepare_imports()
        torch.manual_seed(seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        with beside_the_default_stream(self.device):
            yield

    def number(self, seed: int, step: int) -> int:
        """Seed of what this process draws in a step."""
        return hash((seed, step, self.rank)) % 2**32  # of integers alone, which hash alike everywhere

    def log(self, step: int, **values: float) -> None:
        """Write a line to `log.jsonl`; only the first process does."""
        if self.first:
            line = {"step": step, "seconds": round(time.monotonic() - self._began, 2), **values}
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def save(self, fixed: dict[str, Any], **state: Any) -> None:
        """Replace `state.pt`; only the first process does. `fixed` is what a training that goes on must have in common with this one."""
        if self.first:
            buffer = BytesIO()
            torch.save({"settings": {name: str(value) for name, value in fixed.items()}, **state}, buffer)
            write_whole(self.folder / _STATE, buffer.getvalue())

    def export(self, name: str, values: dict[str, torch.Tensor], steps: int, seed: int) -> None:
        """Replace the file `name` with `values`, and say how many steps they have had; only the first process does."""
        if self.first:
            write_whole(self.folder / name, save(values, {"steps": str(steps), "seed": str(seed)}))

    def resumed(self, fixed: dict[str, Any], optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
        """What was saved, its "optimizers" put back already; empty where there is nothing yet.

        Raises:
            TrainingError: the folder has a training with something else in `fixed`.
        """
        state = saved(self.folder)
        if state is None:
            return {}
        if other := [name for name, value in fixed.items() if state["settings"].get(name) != str(value)]:
            raise TrainingError(f"{self.folder} has a training with another {', '.join(other)}. Choose another folder, or delete it first.")
        for optimizer, its in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its)
            for group in optimizer.param_groups:
                group["lr"] = group["lr"].to(self.device)
        return state

    def wrapped(self, module: torch.nn.Module) -> torch.nn.Module:
        """`module` with its gradients averaged over the processes, where there are several."""
        if self.world == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        cards = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=cards, gradient_as_bucket_view=True, broadcast_buffers=False)


def saved(folder: Path) -> dict[str, Any] | None:
    """What `Process.save` wrote, on the CPU; None where there is nothing yet."""
    file = folder / _STATE
    return dict(torch.load(file, map_location="cpu", weights_only=True)) if file.is_file() else None


def run(
    task: Callable[..., None],
    folder: Path,
    settings: Any,
    *,
    processes: int,
    device: str,
    steps: int,
    minutes: float | None,
    cancel: Cancel,
    progress: Progress,
) -> dict[str, Any]:
    """Run `task(process, settings)` in `processes` processes until it ends, and return the last line of its log.

    Raises:
        TrainingError: a process failed, or there are fewer cards than processes.
    """
    if device == "cuda" and processes > torch.cuda.device_count():
        raise TrainingError(
            f"There are {torch.cuda.device_count()} cards for {processes} processes. Use --processes {torch.cuda.device_count()}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    stop = multiprocessing.get_context("spawn").Event()
    started: Any = spawn(_main, (task, folder, settings, processes, device, stop, minutes, _free_port()), nprocs=processes, join=False)
    try:
        while not started.join(timeout=_POLL_SECONDS):
            if cancel.is_set:
                stop.set()  # it ends after its step, and saves
            if last := _last_line(folder):
                progress(_words(last), int(last["step"]), steps)
    except (ProcessRaisedException, ProcessExitedException) as error:
        raise TrainingError(f"The training has failed: {str(error).strip().splitlines()[-1][:300]}") from None
    return _last_line(folder) or {"step": 0}


def _words(line: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in line.items() if name not in ("step", "seconds"))


def _last_line(folder: Path) -> dict[str, Any] | None:
    file = folder / "log.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in reversed(lines):
        try:
            return dict(json.loads(line))
        except json.JSONDecodeError:  # half written
            continue
    return None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _main(
    rank: int, task: Callable[..., None], folder: Path, settings: Any, world: int, device: str, stop: Any, minutes: float | None, port: int
) -> None:
    if device == "cuda":  # each sees its own card alone, so that what one has compiled fits the others too
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[rank] if seen else str(rank)
    with _group(rank, world, device, port):
        here = torch.device(device, 0) if device == "cuda" else torch.device(device)
        task(Process(folder, rank, world, here, stop, minutes), settings)


@contextmanager
def _group(rank: int, world: int, device: str, port: int) -> Any:
    if world == 1:
        yield
        return
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("nccl" if device == "cuda" else "gloo", rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def plain(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its state on the CPU, apart from its parameters."""
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}
