"""A run as a person looks at it: narrowed to some cards, texts and configurations, and remembering what took time to compute.

Knows nothing about Gradio and draws nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lab.bench import statistics
from lab.bench.analysis import ALL_TEXTS, Analysis, Noise, Pair
from lab.bench.record import WARM_UP, Run
from lab.bench.statistics import Line, Summary
from lab.errors import LabError

#: What is looked at at once. A bootstrap of more samples would take gigabytes, and a file from elsewhere may claim anything.
MOST_SAMPLES = 20_000
_MOST_PARTS = {"arms": 64, "texts": 200, "devices": 64, "blocks": MOST_SAMPLES, "failures": MOST_SAMPLES, "starts": 2_000}
#: Above this standard deviation of a block, the number of blocks that would be needed takes seconds to find, and helps nobody.
_TOO_NOISY = 0.25


class TooLarge(LabError):
    """A run is larger than can be shown."""


class View(Analysis):
    """An `Analysis` of the samples on some cards and of some text sets; empty means all."""

    def __init__(self, run: Run, cards: Collection[str] = (), sets: Collection[str] = ()) -> None:
        """Raises `TooLarge` for a run of more than 20,000 samples, 64 configurations or devices, or 200 texts."""
        for name, most in _MOST_PARTS.items():
            if len(getattr(run, name)) > most:
                raise TooLarge(f"It has {len(getattr(run, name)):,} {name}; at most {most:,} are shown.")
        if len(run.samples) > MOST_SAMPLES:
            raise TooLarge(f"It has {len(run.samples):,} samples; at most {MOST_SAMPLES:,} are shown.")
        super().__init__(run)
        #: The run without the filters: a filter of texts must not hide what the first call costs.
        self.whole = Analysis(run)
        self._cards, self._chosen_sets = frozenset(cards), frozenset(sets)
        self._summaries: dict[tuple[str, str], Summary | None] = {}
        self._fits: dict[str, Line | None] = {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """As `Analysis.frame`, narrowed."""
        frame = self.whole.frame
        keep = pd.Series(True, index=frame.index)
        if self._cards:
            keep &= frame["card"].isin(self._cards)
        if self._chosen_sets:
            keep &= frame["set"].isin(self._chosen_sets)
        return frame[keep]

    @property
    def sets(self) -> list[str]:
        """The text sets that are left, in order."""
        return [name for name in super().sets if not self._chosen_sets or name in self._chosen_sets]

    @property
    def invalid(self) -> int:
        """As `Analysis.invalid`, of the texts that are left."""
        measured = self.frame[~self.frame["warm_up"]]
        lost = [item for item in self.run.failures if item.block != WARM_UP and self.run.texts[item.text].set in self.sets]
        return int((~measured["valid"]).sum()) + len(lost)

    @cached_property
    def noise(self) -> Noise | None:
        """As `Analysis.noise`; None as well where the reference differs from itself so much that nothing can be seen."""
        ratios = np.asarray(self.log_ratios(self.twin, self.reference) if self.twin else (), dtype=np.float64)
        if len(ratios) < 2 or not np.isfinite(ratios).all() or ratios.std(ddof=1) > _TOO_NOISY:
            return None
        return super().noise

    def values(self, label: str, texts: str = ALL_TEXTS) -> pd.DataFrame:
        """The samples of an arm that count and have a finite real-time factor, in the order in which they were measured."""
        rows = self.counted[(self.counted["label"] == label) & np.isfinite(self.counted["rtf"])]
        return rows if texts == ALL_TEXTS else rows[rows["set"] == texts]

    def summary(self, label: str, texts: str = ALL_TEXTS) -> Summary | None:
        """The real-time factors of an arm, described; None without samples."""
        if (label, texts) not in self._summaries:
            rows = self.values(label, texts)
            found = statistics.summarise(rows["rtf"], rows["block"]) if len(rows) and rows["rtf"].mean() > 0 else None
            self._summaries[label, texts] = found
        return self._summaries[label, texts]

    def fit(self, label: str) -> Line | None:
        """As `Analysis.fit`."""
        if label not in self._fits:
            rows = self.values(label)
            self._fits[label] = statistics.fit_line(rows["seconds"], rows["total_ms"], rows["block"])
        return self._fits[label]


@dataclass(frozen=True)
class ShownRun:
    """One run on a page."""

    view: View
    labels: tuple[str, ...]  # the arms that are shown
    reference: str  # label of the arm that the others are compared with
    title: str  # what the run is called; raw
    note: str  # what else tells it from others; raw

    @property
    def run(self) -> Run:
        """The run."""
        return self.view.run

    def arm(self, label: str) -> Any:
        """The record of an arm."""
        return self.run.arms[self.view.labels.index(label)]

    @property
    def pairs(self) -> list[Pair]:
        """The shown arms against the reference, the A/A arm last: it is always there, because it says what the others are worth."""
        found = [pair for pair in self.view.pairs(self.reference) if pair.a in self.labels]
        aa = self.view.aa()
        return [*found, *([aa] if aa else [])]


class Views:
    """The views that were asked for last, so that a page that changes one thing computes only that. Safe to use from several threads."""

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._views: OrderedDict[Hashable, View] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], View]) -> View:
        """The view of `key`; `make` is called, outside the lock, when it is not there."""
        with self._lock:
            if key in self._views:
                self._views.move_to_end(key)
                return self._views[key]
        made = make()
        with self._lock:
            self._views[key] = made
            while len(self._views) > self._most:
                self._views.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._views)


def short_names(names: Sequence[str]) -> list[str]:
    """What to call runs beside each other: their `names`, and where there are several a letter before each."""
    if len(names) == 1:
        return [*names]
    return [f"{_letter(index)} · {name}" for index, name in enumerate(names)]


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"{_letter(index // 26 - 1)}{_letter(index % 26)}"
