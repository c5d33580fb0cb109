"""Runs of one machine taken together: which of them can compare two configurations, and what their blocks say as one.

A run is left out of a comparison where the processes of the two were not started alike. One run in twenty has an A/A arm that differs from itself by chance
alone; such runs are left out too, unless the A/A arms of all runs together do not differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lab.bench import ratios
from lab.bench.analysis import Analysis
from lab.bench.ratios import Ratio


def having(analyses: Sequence[Analysis], *configs: str) -> list[Analysis]:
    """The runs that measured all of these configurations."""
    return [look for look in analyses if set(configs) <= {arm.label for arm in look.run.arms}]


def comparing(analyses: Sequence[Analysis], a: str, b: str) -> list[Analysis]:
    """The runs that can compare two configurations."""
    able = [look for look in having(analyses, a, b) if look.started_alike(a, b)]
    together = pooled_aa(able)
    if together is None or not together.differs:
        return able
    return [look for look in able if (aa := look.aa()) is None or not aa.ratio.differs]


def pooled_ratio(analyses: Sequence[Analysis], a: str, b: str) -> tuple[Ratio, int] | None:
    """Time of a over time of b from all runs that can compare them, and their number; None where there is none."""
    runs = comparing(analyses, a, b)
    ratio = _over_launches([(look, a, b) for look in runs])
    return (ratio, len(runs)) if ratio else None


def pooled_aa(analyses: Sequence[Analysis]) -> Ratio | None:
    """The reference of each run against itself; the references may be other configurations from run to run."""
    return _over_launches([(look, twin, look.reference) for look in analyses if (twin := look.twin)], others=False)


def _over_launches(pairs: Sequence[tuple[Analysis, str, str]], *, others: bool = True) -> Ratio | None:
    """Time of a over time of b from the blocks of several runs, each with its names of the two, whose launches count as those of one run.

    What processes differ by is taken from all arms that the runs have in common, or from the two alone where a and b are other configurations in each run.
    """
    parts = [look.log_ratios(a, b) for look, a, b in pairs]
    found = np.concatenate([*parts, np.empty(0)])
    if not len(found):
        return None
    tables = [look.common_blocks().rename(columns={a: 0, b: 1}) for look, a, b in pairs]
    common = [label for label in tables[0].columns if label in (0, 1) or (others and all(label in table.columns for table in tables))]
    table = np.concatenate([table[common].to_numpy() for table in tables])
    spread = ratios.launch_spread(table, _launches(pairs, tables)) if len(common) > 1 else None
    units = [look.units(a, b, part.index) if len(part) else 2.0 for (look, a, b), part in zip(pairs, parts, strict=True)]
    return ratios.paired_ratio(found, _launches(pairs, parts), spread, float(np.average(units, weights=[len(part) for part in parts])))


def _launches(pairs: Sequence[tuple[Analysis, str, str]], parts: Sequence[pd.Series | pd.DataFrame]) -> list[str]:
    """The launch of each block of `parts`, one part a run, by names that differ from run to run."""
    return [
        f"{index} {name}" for index, ((look, *_), part) in enumerate(zip(pairs, parts, strict=True)) for name in look.launches(part.index)
    ]
