"""Figures of the original project, repeated beside what the lab measured, and not checked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quoted:
    """A figure that others measured, repeated here and not checked."""

    figure: str
    conditions: str


#: Figures of the original project, as its notes of 2025-09-30 give them; all from a Jetson AGX Orin (32 GB, PyTorch 2.5, clocks locked unless it says so).
QUOTED = (
    Quoted("RTF 1.32", "before any optimisation, NFE 32"),
    Quoted("mean RTF 0.241 and 0.278", "NFE 8, two sessions of the same day, 3 calls each"),
    Quoted("mean RTF 0.212", "NFE 7, 10 calls"),
    Quoted("mean RTF 0.242, spread 26 %", "NFE 7, clocks not locked, first call left out"),
    Quoted("mean RTF 0.169", "NFE 7; the state that the three patches were to improve"),
    Quoted("mean RTF 0.143–0.157", "with the three patches: an estimate, not a measurement"),
    Quoted("mean RTF 0.174, coefficient of variation 11.8 %", "measured later with the patches, NFE 7, 20 calls"),
)
