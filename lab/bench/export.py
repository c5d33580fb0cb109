"""Samples of runs as tables for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lab.bench.analysis import Analysis, frames
from lab.bench.record import Run
from lab.durable import write_whole
from lab.errors import LabError


def inert(table: pd.DataFrame) -> pd.DataFrame:
    """The table with no text that a spreadsheet would run as a formula: names in it may come from anybody's file."""
    return table.map(lambda cell: f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell)


def samples_csv(runs: Sequence[Run]) -> bytes:
    """All samples as CSV (UTF-8), one row each."""
    text: str = inert(frames([Analysis(run) for run in runs])).to_csv(index=False)
    return text.encode()


def samples_parquet(runs: Sequence[Run]) -> bytes:
    """All samples as Parquet."""
    return bytes(frames([Analysis(run) for run in runs]).to_parquet(None, index=False, engine="pyarrow"))


def write_samples(runs: Sequence[Run], out: Path) -> int:
    """Write the samples of `runs` to `out`, as its ending says; returns how many.

    Raises:
        LabError: the ending is neither .csv nor .parquet, or there is no run.
        OSError: it cannot be written.
    """
    makers = {".csv": samples_csv, ".parquet": samples_parquet}
    maker = makers.get(out.suffix.lower())
    if maker is None:
        raise LabError(f"{out.name} has to end in .csv or .parquet.")
    if not runs:
        raise LabError("There is no run to export.")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, maker(runs))
    return sum(len(run.samples) for run in runs)
