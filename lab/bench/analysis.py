"""What a run says: its samples as a table, the configurations described, pairs compared. Nothing is stored; it is computed from the samples each time.

A sample counts when it is valid, belongs to a block, and is not the first of its process. Everything else stays in the table, marked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lab.bench import ratios, statistics
from lab.bench.noise import Noise, look_at_noise
from lab.bench.ratios import Ratio, Spread
from lab.bench.record import THROTTLED, WARM_UP, Run
from lab.bench.statistics import Line, Summary
from lab.engine.clip import STAGES

ALL_TEXTS = "all"


@dataclass(frozen=True)
class Pair:
    """Two arms of one run compared: a is the one spoken of, b the reference."""

    a: str
    b: str
    texts: str  # the text set, or "all"
    ratio: Ratio


@dataclass(frozen=True)
class Described:
    """One arm's real-time factor and time, over one text set or all."""

    label: str
    texts: str
    rtf: Summary
    total_ms: Summary


@dataclass(frozen=True)
class FirstCall:
    """What the first utterance costs that later ones do not."""

    label: str
    start_s: float | None  # process started to model loaded
    together: int  # how many processes were starting at the same time
    first_ms: float | None  # first utterance of the process
    compile_ms: float  # of that, and of what was compiled later
    warm_ms: float | None  # the same text later, median


class Analysis:
    """One run, looked at. Attributes are computed when they are asked for."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.labels = [arm.label for arm in run.arms]
        self.reference = self.labels[0]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per sample with the record's columns, and names, lengths, RTF and marks beside them."""
        run, columns = self.run, self.run.samples.columns()
        frame = pd.DataFrame({name: pd.Series(values, dtype=_dtype(name)) for name, values in columns.items()})
        blocks = {block.number: block for block in run.blocks}
        frame.insert(0, "label", pd.Categorical([self.labels[arm] for arm in columns["arm"]], categories=self.labels))
        frame["config"] = [run.arms[arm].config for arm in columns["arm"]]
        frame["text_id"] = [run.texts[text].id for text in columns["text"]]
        frame["set"] = [run.texts[text].set for text in columns["text"]]
        frame["seconds"] = [run.texts[text].seconds for text in columns["text"]]
        frame["card"] = [run.devices[device].device for device in columns["device"]]
        frame["worker"] = [run.devices[device].worker for device in columns["device"]]
        frame["round"] = [blocks[block].round if block != WARM_UP else -1 for block in columns["block"]]
        frame["launch"] = [blocks[block].launch if block != WARM_UP else -1 for block in columns["block"]]
        frame["rtf"] = frame["total_ms"] / 1000 / frame["seconds"].replace(0, np.nan)
        frame["warm_up"] = frame["block"] == WARM_UP
        frame["valid"] = True
        frame.loc[list(run.samples.invalid), "valid"] = False
        frame["reason"] = ""
        for index, reasons in run.samples.invalid.items():
            frame.loc[index, "reason"] = "; ".join(reasons)
        frame["counted"] = frame["valid"] & ~frame["warm_up"] & (frame["cold"] == 0)
        frame["throttled"] = (frame["throttle"].fillna(0).astype(int) & THROTTLED) != 0
        return frame

    @cached_property
    def counted(self) -> pd.DataFrame:
        """The samples that count."""
        return self.frame[self.frame["counted"]]

    @property
    def invalid(self) -> int:
        """Measured samples that were left out, and utterances that gave none; warm-ups not counted."""
        measured = self.frame[~self.frame["warm_up"]]
        return int((~measured["valid"]).sum()) + sum(failure.block != WARM_UP for failure in self.run.failures)

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """Log time of each arm in each block: rows are blocks, columns are arms, NaN where one of the arm's two places is missing."""
        if self.counted.empty:
            return pd.DataFrame(columns=self.labels)
        burst = self.run.plan.concurrency
        counted = self.counted
        if burst == 1:
            times = counted.assign(log=np.log(counted["total_ms"]))
            grouped = times.groupby(["block", "label"], observed=True)["log"]
            table = grouped.mean().where(grouped.count() == 2).unstack("label")
        else:
            table = self._bursts(counted, burst)
        return table.reindex(columns=self.labels)

    @staticmethod
    def _bursts(counted: pd.DataFrame, burst: int) -> pd.DataFrame:
        """As `blocks`, with the time from a burst's first request to its last answer, a request."""
        times = counted.sort_values("at_s")
        place = times.groupby(["block", "label"], observed=True).cumcount() // burst
        times = times.assign(place=place, end=times["at_s"] + times["latency_ms"] / 1000)
        each = times.groupby(["block", "label", "place"], observed=True)
        span = (each["end"].max() - each["at_s"].min()) * 1000 / burst
        log = np.log(span.where(each.size() == burst)).groupby(level=["block", "label"], observed=True)
        return log.mean().where(log.count() == 2).unstack("label")

    def processes(self, label: str, other: str) -> list[str]:
        """The arms whose times stand for `label` when it is compared with `other`: of the reference both, unless they are compared with each other."""
        return [label, self.twin] if label == self.reference and self.twin and other != self.twin else [label]

    def log_ratios(self, a: str, b: str, texts: str = ALL_TEXTS) -> pd.Series:
        """Paired log-ratio of a over b for each block of `texts`, indexed by block. The time of the reference is the mean of its two processes'."""
        times = [self.blocks[self.processes(*names)].mean(axis=1) for names in ((a, b), (b, a))]
        difference = (times[0] - times[1]).dropna()
        return difference if texts == ALL_TEXTS else difference[[self._set_of[block] == texts for block in difference.index]]

    def units(self, a: str, b: str, blocks: pd.Index) -> float:
        """Variance of a difference between a and b in `blocks`, in units of one process's: 2 for one against one, 1.5 for one against two."""
        return sum(1 / float(self.blocks.loc[blocks, self.processes(*names)].count(axis=1).mean()) for names in ((a, b), (b, a)))

    @cached_property
    def _set_of(self) -> dict[int, str]:
        return {block.number: self.run.texts[block.text].set for block in self.run.blocks}

    @cached_property
    def _launch_of(self) -> dict[int, str]:
        """The set of processes that measured a block: each worker of a cluster has its own."""
        return {block.number: f"{block.device}/{block.launch}" for block in self.run.blocks}

    def launches(self, blocks: Iterable[int]) -> list[str]:
        """The launch of each of `blocks`, named by device and number."""
        return [self._launch_of[block] for block in blocks]

    def common_blocks(self, texts: str = ALL_TEXTS) -> pd.DataFrame:
        """Log times of the blocks that have every arm: rows are blocks, columns the arms that have samples."""
        table = self.blocks.dropna(axis=1, how="all").dropna()
        return table if texts == ALL_TEXTS else table[[self._set_of[block] == texts for block in table.index]]

    def started_alike(self, a: str, b: str) -> bool:
        """Whether the processes of two arms were started in company of equally many others, in every launch.

        The first runs started the reference and its twin first, each alone. On an H100 both were then 4 to 5 % slower than every other arm for as long as
        they lived, also than one that does the same work: such a run can compare neither with the others.
        """
        last = {(start.device, start.launch, arm): start.together for start in self.run.starts for arm in start.arms}
        compared = {self.labels.index(label) for label in (*self.processes(a, b), *self.processes(b, a))}
        together: dict[tuple[int, int], set[int]] = {}
        for (device, launch, arm), count in last.items():
            if arm in compared:
                together.setdefault((device, launch), set()).add(count)
        return all(len(counts) == 1 for counts in together.values())

    def _spread(self, texts: str) -> Spread | None:
        table = self.common_blocks(texts)
        return ratios.launch_spread(table.to_numpy(), self.launches(table.index)) if len(table) else None

    @property
    def sets(self) -> list[str]:
        """The text sets of the run, in order."""
        return list(dict.fromkeys(text.set for text in self.run.texts))

    def pair(self, a: str, b: str, texts: str = ALL_TEXTS) -> Pair | None:
        """Compare two arms; None where they have no block in common."""
        found = self.log_ratios(a, b, texts)
        if not len(found):
            return None
        return Pair(a, b, texts, ratios.paired_ratio(found, self.launches(found.index), self._spread(texts), self.units(a, b, found.index)))

    def pairs(self, reference: str | None = None, texts: str = ALL_TEXTS) -> list[Pair]:
        """Every arm but the A/A arm against `reference` (by default the first), in the run's order."""
        against = reference or self.reference
        plain = [arm.label for arm in self.run.arms if not arm.instance and arm.label != against]
        return [pair for label in plain if (pair := self.pair(label, against, texts))]

    @property
    def twin(self) -> str | None:
        """Label of the A/A arm."""
        return next((arm.label for arm in self.run.arms if arm.instance), None)

    def aa(self, texts: str = ALL_TEXTS) -> Pair | None:
        """The reference against itself."""
        return self.pair(self.twin, self.reference, texts) if self.twin else None

    @cached_property
    def noise(self) -> Noise | None:
        """What a run of this kind can see, from its A/A arm; None with fewer than two blocks."""
        found = self.log_ratios(self.twin, self.reference) if self.twin else pd.Series(dtype=float)
        if len(found) < 2:
            return None
        arms = len(self.common_blocks().columns)
        return look_at_noise(found.to_numpy(), self.launches(found.index), self._spread(ALL_TEXTS), arms)

    def described(self, texts: str = ALL_TEXTS) -> list[Described]:
        """Every arm that has samples, described; `texts` may name one set."""
        return [row for label in self.labels if (row := self._described(label, texts))]

    def _described(self, label: str, texts: str) -> Described | None:
        rows = self.counted[self.counted["label"] == label]
        if texts != ALL_TEXTS:
            rows = rows[rows["set"] == texts]
        if rows.empty:
            return None
        rtf, total = (statistics.summarise(rows[name], rows["block"], rows["text_id"]) for name in ("rtf", "total_ms"))
        return Described(label, texts, rtf, total)

    def fit(self, label: str) -> Line | None:
        """Time of an arm against the length of what it said."""
        rows = self.counted[self.counted["label"] == label]
        return statistics.fit_line(rows["seconds"], rows["total_ms"], rows["block"])

    def stages(self, texts: str = ALL_TEXTS) -> pd.DataFrame:
        """Mean milliseconds of each stage: rows are arms, columns are stages."""
        rows = self.counted if texts == ALL_TEXTS else self.counted[self.counted["set"] == texts]
        columns = [f"stage {name}" for name in STAGES]
        means = rows.groupby("label", observed=True)[columns].mean()
        return means.rename(columns=dict(zip(columns, STAGES, strict=True)))

    def memory(self) -> pd.Series:
        """Peak memory of each arm in MiB, over all its samples."""
        return self.frame.groupby("label", observed=True)["memory_mb"].max()

    def first_calls(self) -> list[FirstCall]:
        """Start and first utterance of each arm, in its first launch. Arms that share a process have one first utterance between them."""
        return [self._first_call(index, label) for index, label in enumerate(self.labels)]

    def _first_call(self, index: int, label: str) -> FirstCall:
        start = next((item for item in self.run.starts if index in item.arms), None)
        rows = self.frame[self.frame["label"] == label]
        cold = rows[rows["cold"] == 1]
        warm = rows[rows["counted"]]
        text = cold["text"].iloc[0] if len(cold) else None
        same = warm[warm["text"] == text] if text is not None and (warm["text"] == text).any() else warm
        return FirstCall(
            label,
            start.seconds if start else None,
            start.together if start else 1,
            float(cold["total_ms"].iloc[0]) if len(cold) else None,
            float(rows["compile_ms"].sum()),
            float(same["total_ms"].median()) if len(same) else None,
        )

    @property
    def throttled(self) -> int:
        """Counted samples after which the card said that it was held back."""
        return int(self.counted["throttled"].sum())


def _dtype(name: str) -> str | None:
    """Columns that may hold None become floats with NaN."""
    if name in ("sm_mhz", "memory_mhz", "temperature_c", "power_w", "throttle", "load"):
        return "float64"
    return None


def frames(analyses: Iterable[Analysis]) -> pd.DataFrame:
    """The samples of several runs, one table, with the run's id, card and weights in front."""
    parts = []
    for analysis in analyses:
        run = analysis.run
        parts.append(analysis.frame.assign(label=analysis.frame["label"].astype(str), run=run.id, weights=run.weights.name))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    front = ["run", "weights", "card", "label"]
    return table[[*front, *(name for name in table.columns if name not in front)]]
