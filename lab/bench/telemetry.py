"""What the machine was doing around a sample: clocks, temperature, power and throttle reasons of the card, load of the host.

Read between samples, never during one: the driver's locks would hold up the launches that are being timed. Without an NVIDIA card, or without NVML,
the card's readings are None.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import psutil

from lab.bench.environment import card_index


@dataclass(frozen=True)
class Reading:
    """One look at the machine."""

    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    throttle: int | None  # bits as in `lab.bench.record.THROTTLE_BITS`
    load: float | None  # load average of the last minute
    busy_percent: float  # of all processor time since the reading before


class Telemetry:
    """Readings of one device; `close` it when done."""

    def __init__(self, kind: str) -> None:
        """Look for the card that CUDA numbers 0, where `kind` is "cuda"."""
        self._nvml: Any = None
        self._card: Any = None
        if kind == "cuda":
            self._open()
        psutil.cpu_percent()  # the first call has nothing to compare with

    def _open(self) -> None:
        with contextlib.suppress(Exception):  # no NVML is no error: a machine without it is measured without clocks
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            self._card = _first_visible(pynvml)

    @property
    def driver(self) -> str:
        """Version of the NVIDIA driver; empty without NVML."""
        if self._card is None:
            return ""
        return _text(self._nvml.nvmlSystemGetDriverVersion())

    @property
    def cards(self) -> int:
        """How many cards the host has; 1 without NVML."""
        return 1 if self._card is None else max(1, self._ask("nvmlDeviceGetCount") or 1)

    def read(self) -> Reading:
        """Look once; a value that the card does not tell is None."""
        nvml, card = self._nvml, self._card
        power = self._ask("nvmlDeviceGetPowerUsage", card)
        return Reading(
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", card, nvml and nvml.NVML_CLOCK_SM),
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", card, nvml and nvml.NVML_CLOCK_MEM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", card, nvml and nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power is None else power / 1000,
            throttle=self._ask("nvmlDeviceGetCurrentClocksEventReasons", card),
            load=_load(),
            busy_percent=psutil.cpu_percent(),
        )

    def _ask(self, name: str, *arguments: Any) -> int | None:
        if self._card is None:
            return None
        try:
            return int(getattr(self._nvml, name)(*arguments))
        except Exception:  # NVML raises its own kind for each thing that a card cannot tell
            return None

    def close(self) -> None:
        """Let go of NVML."""
        if self._nvml is not None:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()
        self._nvml = self._card = None


def _first_visible(nvml: Any) -> Any:
    """The card that a worker will use: NVML numbers all cards, CUDA those that CUDA_VISIBLE_DEVICES names."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if visible.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(visible)
    return nvml.nvmlDeviceGetHandleByIndex(card_index())


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
