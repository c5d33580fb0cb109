"""Runs, samples, tables and figures as files for download."""

from __future__ import annotations

import html
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab.bench import export
from lab.bench.run_files import read_run, write_run
from lab.errors import LabError
from lab.ui.run_selection import Offer

RUNS, CSV, PARQUET, TABLES, FIGURES = "runs", "csv", "parquet", "tables", "figures"
#: What can be asked for, as the page calls it.
KINDS = (
    ("runs as stored (JSON)", RUNS),
    ("samples (CSV)", CSV),
    ("samples (Parquet)", PARQUET),
    ("tables (CSV)", TABLES),
    ("figures (one HTML file, 5 MB)", FIGURES),
)
_LOOSE = 4  # files of one kind that are given one by one; more are put into an archive
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:0 auto;padding:16px;background:#fff;color:#222}"
    "@media(prefers-color-scheme:dark){body{background:#0b0f19;color:#ddd}}h1,h2{line-height:1.2}small{color:#808080}"
)


@dataclass(frozen=True)
class Contents:
    """What a page shows, ready to be written."""

    offers: Sequence[Offer]  # the runs that are chosen, also those that are too many to be shown
    tables: Mapping[str, pd.DataFrame]  # by name of the file, without ending
    figures: Mapping[str, Any]  # by heading
    link: str


def write(kinds: Sequence[str], what: Contents, folder: Path) -> list[str]:
    """Write what `kinds` ask for into `folder`, which is empty; returns the paths.

    Raises:
        LabError: nothing is asked for, or a run cannot be read any more.
    """
    made: list[Path] = []
    if RUNS in kinds:
        made += _archived(_run_files(what.offers, folder), folder / "runs.zip")
    for kind in (CSV, PARQUET):
        if kind in kinds:
            made.append(folder / f"samples.{kind}")
            export.write_samples([offer.uploaded or read_run(offer.head.path) for offer in what.offers], made[-1])
    if TABLES in kinds:
        for name, table in what.tables.items():
            made.append(folder / f"{name}.csv")
            made[-1].write_text(export.inert(table).to_csv(index=False), encoding="utf-8")
    if FIGURES in kinds:
        made.append(folder / "figures.html")
        made[-1].write_text(standalone(what.figures, what.link), encoding="utf-8")
    if not made:
        raise LabError("Choose what the files shall hold.")
    return [str(path) for path in made]


def _run_files(offers: Sequence[Offer], folder: Path) -> list[Path]:
    paths = []
    for offer in offers:
        place = folder / ("uploaded" if offer.uploaded else "stored")
        if offer.uploaded:
            paths.append(write_run(offer.uploaded, place))
            continue
        place.mkdir(exist_ok=True)
        try:
            paths.append(Path(shutil.copyfile(offer.head.path, place / f"{offer.head.id}.json")))
        except OSError as error:
            raise LabError(f"{offer.head.id} cannot be read any more: {error.strerror or error}.") from None
    return paths


def _archived(paths: list[Path], archive: Path) -> list[Path]:
    if len(paths) <= _LOOSE:
        return paths
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in paths:
            file.write(path, f"{path.parent.name}/{path.name}")
    return [archive]


def standalone(figures: Mapping[str, Any], link: str) -> str:
    """One HTML page that holds `figures` (by heading) and all it takes to draw them: it asks nobody for anything."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>iShowTTS Lab: runs</title><style>{_STYLE}</style></head><body><h1>iShowTTS Lab: runs</h1>",
        f"<p><small>{html.escape(link)}</small></p>",
    ]
    for number, (heading, figure) in enumerate(figures.items()):
        height = f"{figure.layout.height}px"
        drawn = figure.to_html(full_html=False, include_plotlyjs=not number, config={"responsive": True}, default_height=height)
        parts.append(f"<h2>{html.escape(heading)}</h2>{drawn}")
    return "".join([*parts, "</body></html>"])
