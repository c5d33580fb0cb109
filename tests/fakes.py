"""The engine boundary with nothing behind it: a pool whose workers have no model, but real processes, overlays and locks."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.engine.clip import RenderRequest
from lab.engine.device import Device
from lab.engine.pool import EnginePool
from lab.engine.weights import Choice, resolve
from lab.store import Store
from lab.ui.context import Context

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
CPU = Device("cpu", "a CPU", "2.13.0", compiler=True)


def fake_pool(weights: str = "demo", device: Device = CPU, **settings) -> EnginePool:
    return EnginePool(resolve(weights), device, command=FAKE_WORKER, **settings)


def request(text: str = "Hello there.", seed: int = 1) -> RenderRequest:
    return RenderRequest(text, "/nowhere/voice.wav", "A reference.", seed)


@contextmanager
def differing_pool(folder: Path) -> Iterator[EnginePool]:
    """A fake pool whose clips differ by their number of steps; overlays go to `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_CACHE_DIR", str(folder))
        patch.setenv("FAKE_WORKER_DIFFERS", "1")
        with fake_pool() as pool:
            yield pool


@contextmanager
def lab_context(folder: Path) -> Iterator[Context]:
    """A whole lab over a fake pool, with all that it keeps in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_CACHE_DIR", str(folder / "cache"))
        patch.delenv("LAB_DATABASE_URL", raising=False)
        store = Store.open(folder / "data")
        with fake_pool() as pool:
            yield Context(pool, Choice(resolve("demo"), "a test"), store)
        store.close()


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether `holds` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (true := holds()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true
