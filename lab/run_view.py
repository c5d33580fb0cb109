"""A run as a person looks at it: narrowed to some cards, texts and configurations, and remembering what took time to compute.

Knows nothing about Gradio and draws nothing.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from lab.bench import statistics
from lab.bench.analysis import ALL_TEXTS, Analysis, FirstCall, Pair
from lab.bench.record import WARM_UP, Run
from lab.bench.statistics import Line, Summary
from lab.errors import LabError

#: What is looked at at once. A bootstrap of more samples would take gigabytes, and a file from elsewhere may claim anything.
MOST_SAMPLES, _MOST_OF_AN_ARM = 20_000, 10_000
_LARGEST = 1e12  # of any number in a column: more is no measurement
_MOST_PARTS = {"arms": 64, "texts": 200, "devices": 64, "blocks": 5_000, "failures": MOST_SAMPLES, "starts": 2_000}


class CannotShow(LabError):
    """A run is larger than can be shown, or says what cannot be true."""


class View(Analysis):
    """An `Analysis` of the samples on some cards and of some text sets; empty means all."""

    def __init__(self, run: Run, cards: Collection[str] = (), sets: Collection[str] = ()) -> None:
        """Raises `CannotShow` for more than 20,000 samples (10,000 of an arm), 5,000 blocks, or 64 arms, and for times that cannot be true."""
        _check_size(run)
        super().__init__(run)
        #: The run without the filters: a filter of texts must not hide what the first call costs.
        self.whole = Analysis(run)
        counted = self.whole.counted
        if (counted["total_ms"] <= 0).any() or (counted["rtf"] > _LARGEST).any():
            raise CannotShow("A sample took no time, or endlessly long for its length: that is no measurement.")
        self._cards, self._chosen_sets = frozenset(cards), frozenset(sets)
        self._summaries: dict[tuple[str, str], Summary | None] = {}
        self._fits: dict[str, Line | None] = {}
        self._pairs: dict[tuple[str, str, str], Pair | None] = {}

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
    def starts(self) -> list[FirstCall]:
        """What the first call costs, of every arm, whatever the filters."""
        return self.whole.first_calls()

    def values(self, label: str, texts: str = ALL_TEXTS) -> pd.DataFrame:
        """The samples of an arm that count and have a finite real-time factor, in the order in which they were measured."""
        rows = self.counted[(self.counted["label"] == label) & np.isfinite(self.counted["rtf"])]
        return rows if texts == ALL_TEXTS else rows[rows["set"] == texts]

    def summary(self, label: str, texts: str = ALL_TEXTS) -> Summary | None:
        """The real-time factors of an arm, described; None without samples."""
        if (label, texts) not in self._summaries:
            rows = self.values(label, texts)
            found = statistics.summarise(rows["rtf"], rows["block"], rows["text_id"]) if len(rows) and rows["rtf"].mean() > 0 else None
            self._summaries[label, texts] = found
        return self._summaries[label, texts]

    def pair(self, a: str, b: str, texts: str = ALL_TEXTS) -> Pair | None:
        """As `Analysis.pair`."""
        if (a, b, texts) not in self._pairs:
            self._pairs[a, b, texts] = super().pair(a, b, texts)
        return self._pairs[a, b, texts]

    def fit(self, label: str) -> Line | None:
        """As `Analysis.fit`."""
        if label not in self._fits:
            rows = self.values(label)
            self._fits[label] = statistics.fit_line(rows["seconds"], rows["total_ms"], rows["block"])
        return self._fits[label]


def _check_size(run: Run) -> None:
    sizes = {name: len(getattr(run, name)) for name in (*_MOST_PARTS, "samples")}
    for name, size in sizes.items():
        most = _MOST_PARTS.get(name, MOST_SAMPLES)
        if size > most:
            raise CannotShow(f"It has {size:,} {name}; at most {most:,} are shown.")
    if max(Counter(run.samples.arm).values(), default=0) > _MOST_OF_AN_ARM:
        raise CannotShow(f"It has more than {_MOST_OF_AN_ARM:,} samples of one configuration.")
    for name, column in run.samples.columns().items():
        numbers = [value for value in column if value is not None and not isinstance(value, str)]
        if numbers and max(max(numbers), -min(numbers)) > _LARGEST:
            raise CannotShow(f"A number in {name} is larger than any measurement.")


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

    def texts(self, name: str) -> str:
        """What to call a text set: where one alone is left, all texts are those."""
        return self.view.sets[0] if name == ALL_TEXTS and len(self.view.sets) == 1 else name

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
