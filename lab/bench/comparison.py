"""Several runs side by side: times of what they share, and what differs in their environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from lab.bench.analysis import Analysis
from lab.bench.record import Run
from lab.bench.statistics import Estimate, ratio_of_medians


@dataclass(frozen=True)
class Cell:
    """One configuration in one run."""

    median_ms: float
    ratio: Estimate | None  # against the first run; None in the first itself, or where that has no such sample


@dataclass(frozen=True)
class ComparedRow:
    """One configuration and text set over all runs."""

    config: str
    texts: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class EnvironmentRow:
    """One fact of the environment over all runs."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs disagree."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class RunComparison:
    """What `compare_runs` found."""

    runs: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    differences: tuple[EnvironmentRow, ...]


def compare_runs(analyses: Sequence[Analysis]) -> RunComparison:
    """Compare each run with the first, configuration by configuration and text set by text set."""
    keys = dict.fromkeys(
        (arm.config, texts) for analysis in analyses for texts in analysis.sets for arm in analysis.run.arms if not arm.instance
    )
    rows = [ComparedRow(config, texts, tuple(_cell(analyses[0], look, config, texts) for look in analyses)) for config, texts in keys]
    environment = environment_rows([analysis.run for analysis in analyses])
    return RunComparison(
        tuple(analysis.run.id for analysis in analyses),
        tuple(row for row in rows if any(row.cells)),
        tuple(row for row in environment if row.differs),
    )


def _cell(first: Analysis, look: Analysis, config: str, texts: str) -> Cell | None:
    mine, theirs = (item.counted[(item.counted["label"] == config) & (item.counted["set"] == texts)] for item in (look, first))
    if mine.empty:
        return None
    ratio = unpaired_ratio(mine, theirs) if look is not first else None
    return Cell(float(mine["total_ms"].median()), ratio)


def unpaired_ratio(mine: pd.DataFrame, theirs: pd.DataFrame) -> Estimate | None:
    """Time of the samples `mine` over that of `theirs`, rows of two runs' tables; None where they have no text in common.

    Times are divided by their text's median in `theirs` first, so that texts of different lengths do not widen the interval.
    """
    scale = theirs.groupby("text_id", observed=True)["total_ms"].median()
    parts = [rows[rows["text_id"].isin(set(mine["text_id"]) & set(theirs["text_id"]))] for rows in (mine, theirs)]
    if any(part.empty for part in parts):
        return None
    a, b = (part["total_ms"] / part["text_id"].map(scale) for part in parts)
    return ratio_of_medians(a, parts[0]["block"], b, parts[1]["block"])


def environment_rows(runs: Sequence[Run]) -> list[EnvironmentRow]:
    """Every fact of the environments, in order, with a value for each run ("" where a run has none)."""
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for fact in facts for name in fact)
    return [EnvironmentRow(name, tuple(fact.get(name, "") for fact in facts)) for name in names]


def _facts(run: Run) -> dict[str, str]:
    """The environment of a run, flat; of a cluster, all different values of each fact."""
    flat: dict[str, dict[str, None]] = {}
    for device in run.devices:
        facts = device.model_dump(exclude={"packages", "variables", "worker"})
        values = {name.replace("_", " "): value for name, value in facts.items()}
        values |= {f"package {name}": version for name, version in device.packages.items()}
        values |= {f"variable {name}": value for name, value in device.variables.items()}
        for name, value in values.items():
            flat.setdefault(name, {})[str(value)] = None
    joined = {name: " + ".join(values) for name, values in flat.items()}
    joined |= {f"plan {name.replace('_', ' ')}": str(value) for name, value in run.plan.model_dump().items()}
    return joined | {"weights": run.weights.name, "voice": run.voice.id}


def document(comparison: RunComparison) -> dict[str, Any]:
    """The comparison as `--json` gives it."""
    return asdict(comparison)
