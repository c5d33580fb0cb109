"""What this machine renders on, and which configurations it can run.

The device is looked at in a short child process: asking CUDA for its capability creates a context of some hundred megabytes, which must not stay in
a web server. This module knows nothing about weights or workers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from lab.config import FP16_VOCODER, NO_EMPTY_CACHE, EngineConfig
from lab.errors import LabError

_PROBE = """
import json, platform, torch
cuda = torch.cuda.is_available()
name = platform.processor() or platform.machine()
facts = {"torch": torch.__version__, "kind": "cuda" if cuda else "cpu", "name": name, "capability": None, "memory_gb": 0.0, "cuda": "", "cudnn": ""}
if cuda:
    properties = torch.cuda.get_device_properties(0)
    facts.update(name=properties.name, capability=[properties.major, properties.minor], memory_gb=properties.total_memory / 2**30)
    facts.update(cuda=torch.version.cuda or "", cudnn=str(torch.backends.cudnn.version() or ""), cards=torch.cuda.device_count())
print("LAB-PROBE " + json.dumps(facts))
"""


class DeviceError(LabError):
    """The device asked for is not there, or torch cannot be imported."""


@dataclass(frozen=True)
class Device:
    """Where workers render."""

    kind: str  # "cuda" or "cpu"
    name: str
    torch: str
    capability: tuple[int, int] | None = None  # CUDA compute capability
    memory_gb: float = 0.0  # of the card; 0 on a CPU
    compiler: bool = False  # torch.compile needs a C++ compiler on a CPU
    cuda: str = ""  # version that torch was built for
    cudnn: str = ""
    cards: int = 0  # how many cards torch sees; the first of them renders


@dataclass(frozen=True)
class Fitness:
    """Whether a device can run a configuration, and what of it has no effect there."""

    refused: str = ""  # why not; empty when it can
    inert: tuple[str, ...] = ()

    @property
    def without_effect(self) -> str:
        """What does nothing there, as a sentence; empty where all of it works."""
        return f"Without effect here: {', '.join(self.inert)}." if self.inert else ""


def cpu_name() -> str:
    """The processor's model, as Linux tells it; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - a pseudo file
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return ""


@cache
def probe(kind: str = "auto") -> Device:
    """Look at the machine; `kind` may force "cpu" where there is a CUDA device.

    Raises:
        DeviceError: torch is missing or broken, or "cuda" was asked for and is not there.
    """
    if kind not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"There is no device {kind[:40]!r}. Use auto, cpu or cuda.")
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("LAB-PROBE ")), "")
    if not line:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise DeviceError(f"torch cannot be imported ({reason[:200]}): run `pip install -r requirements.txt`.")
    facts = json.loads(line.removeprefix("LAB-PROBE "))
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    if kind == "cuda" and facts["kind"] != "cuda":
        raise DeviceError(f"There is no CUDA device for torch {facts['torch']} here. Use --device cpu, or install a CUDA build of torch.")
    if kind == "cpu" or facts["kind"] == "cpu":
        return Device("cpu", cpu_name() or facts["name"], facts["torch"], compiler=compiler)
    major, minor = facts["capability"]
    memory = round(facts["memory_gb"], 1)
    return Device("cuda", facts["name"], facts["torch"], (major, minor), memory, compiler, facts["cuda"], facts["cudnn"], facts["cards"])


def fitness(config: EngineConfig, device: Device) -> Fitness:
    """Say whether `device` can run `config`, and which parts of it do nothing there."""
    on_cpu = device.kind == "cpu"
    if config.sampler == "upstream" and config.model_dtype == "bf16" and config.sway == -1 and config.nfe in (16, 32):
        return Fitness(
            f"with the model in BF16 the first steps of the NFE {config.nfe} time grid with sway -1 fall together, and the solver refuses it;"
            " use another nfe, or sway=-0.5"
        )
    if "bf16" in (config.model_dtype, config.vocoder_dtype) and device.capability is not None and device.capability[0] < 8:
        return Fitness(f"BF16 needs compute capability 8 or newer; {device.name} has {device.capability[0]}.{device.capability[1]}")
    if config.compile == "blocks" and not device.compiler:
        return Fitness("torch.compile needs a C++ compiler, and there is none on the PATH: install g++")
    inert = []
    if on_cpu and config.sampler == "turbo":
        inert.append("CUDA graphs and kernels (CUDA only)")
    if on_cpu and config.patches:
        inert.append("the FP16 autocast (CUDA only)")
    if on_cpu and config.patches and NO_EMPTY_CACHE not in config.patches:
        inert.append("empty_cache() (CUDA only)")
    if on_cpu and FP16_VOCODER in config.patches:
        inert.append("the FP16 mel (CUDA only)")
    return Fitness(inert=tuple(inert))


def lock_name(device: Device) -> str:
    """The device as all processes of this machine call it: cards have locks of their own, the processor is one device."""
    if device.kind != "cuda":
        return device.kind
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    return "cuda" if card in ("", "0") else "cuda-" + "".join(letter for letter in card if letter.isalnum() or letter == "-")
