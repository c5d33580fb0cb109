"""The environment of a run: what the figures depend on, as far as a program can see it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import psutil

from lab.bench.record import MachineRecord
from lab.engine.device import Device, cpu_name

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("torch", "torchaudio", "f5-tts", "vocos", "numpy", "torchdiffeq", "x-transformers", "triton", "soundfile")
#: Variables that change how fast something runs. Their values are numbers and switches, nothing private.
_VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS", "KMP_BLOCKTIME"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS", "NVIDIA_TF32_OVERRIDE"),
    *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCHINDUCTOR_MAX_AUTOTUNE", "PYTHONHASHSEED"),
)


def describe_machine(device: Device, driver: str = "", worker: str = "") -> MachineRecord:
    """The machine this process runs on, with `device` as what renders."""
    on_card = device.kind == "cuda"
    return MachineRecord(
        device=device.name,
        kind="cuda" if on_card else "cpu",
        capability=".".join(map(str, device.capability)) if device.capability else "",
        device_memory_gb=device.memory_gb,
        cpu=cpu_name() or platform.machine(),
        cores=usable_cores(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        os=platform.platform(),
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        driver=driver,
        cuda=device.cuda if on_card else "",
        cudnn=device.cudnn if on_card else "",
        variables={name: os.environ[name] for name in _VARIABLES if os.environ.get(name)},
        commit=commit(),
        worker=worker,
    )


def usable_cores() -> int:
    """Processor cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def card_index() -> int:
    """Number of the card that this process renders on, as CUDA_VISIBLE_DEVICES has it; 0 where that names no number."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """The lab's commit (12 digits), with + where tracked files differ from it; `LAB_COMMIT` where a copy without git is measured; otherwise empty."""
    if os.environ.get("LAB_COMMIT"):
        return os.environ["LAB_COMMIT"][:40]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        head = _git("rev-parse", "--short=12", "HEAD")
        if head:
            return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
