"""The engine boundary with nothing behind it: a pool whose workers have no model, but real processes, overlays and locks."""

import sys
from pathlib import Path

from lab.engine.clip import RenderRequest
from lab.engine.device import Device
from lab.engine.pool import EnginePool
from lab.engine.weights import resolve

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
CPU = Device("cpu", "a CPU", "2.13.0", compiler=True)


def fake_pool(weights: str = "demo", device: Device = CPU, **settings) -> EnginePool:
    return EnginePool(resolve(weights), device, command=FAKE_WORKER, **settings)


def request(text: str = "Hello there.", seed: int = 1) -> RenderRequest:
    return RenderRequest(text, "/nowhere/voice.wav", "A reference.", seed)
