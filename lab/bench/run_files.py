"""Runs on disk: one JSON file each under `results/runs/` (or `LAB_RUNS_DIR`), written once and never changed.

A file that cannot be read is named with its reason and skipped, never fatal to the others. A listing keeps heads, not samples: 200 runs of 1,000
samples would fill 200 MB.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lab.bench.record import VERSION, WARM_UP, Run
from lab.durable import sync_folder, write_whole
from lab.errors import LabError

RUNS_DIR = Path(__file__).resolve().parents[2] / "results" / "runs"
#: What is kept of a run that is going on, for the case that the process is killed.
PARTIAL = ".json.partial"
MOST_BYTES = 64 * 2**20
#: How a document of an older version becomes one of the next: version -> function from document to document.
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda document: {**document, "blocks": [{**block, "core": None} for block in document["blocks"]]},
}


class RunFileError(LabError):
    """A run file is missing, damaged, or of a version that this lab does not know."""


@dataclass(frozen=True)
class RunHead:
    """What a list shows of a run."""

    id: str
    path: Path
    created: datetime
    state: str
    machine: str
    card: str
    weights: str
    configs: tuple[str, ...]
    sets: tuple[str, ...]
    rounds: int
    samples: int  # measured ones, warm-ups not counted
    invalid: int  # of those


@dataclass(frozen=True)
class Skipped:
    """A file that is no readable run, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Listing:
    """The runs of a folder, the newest first, and what was skipped."""

    runs: tuple[RunHead, ...]
    skipped: tuple[Skipped, ...]


def runs_dir() -> Path:
    """Where runs are kept: `LAB_RUNS_DIR`, or `results/runs` of the checkout."""
    return Path(os.environ.get("LAB_RUNS_DIR") or RUNS_DIR)


def write_run(run: Run, folder: Path) -> Path:
    """Write `run` to `folder` under its id; returns the path. What was kept of it while it went on goes away.

    Raises:
        RunFileError: there is a run of that id already, which is never overwritten.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.id}.json"
    try:
        write_whole(path, _as_bytes(run), new=True)
    except FileExistsError:
        raise RunFileError(f"{path} is there already, and a run is never overwritten. Choose another folder.") from None
    sync_folder(folder)
    (folder / f"{run.id}{PARTIAL}").unlink(missing_ok=True)
    return path


def write_partial(run: Run, folder: Path) -> None:
    """Keep what there is of a run that is going on; the file becomes a run if it is renamed to end in .json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{run.id}{PARTIAL}", _as_bytes(run))


def _as_bytes(run: Run) -> bytes:
    """The document, a line for each part and each column, so that a reviewer's diff shows what it is about."""
    text = run.model_dump_json()
    parts = json.loads(text)
    lines = []
    for name, value in parts.items():
        if name in ("samples", "blocks", "arms", "texts", "devices", "starts") and value:
            inner = [
                (f"{json.dumps(key)}: " if isinstance(value, dict) else "") + _compact(item)
                for key, item in (value.items() if isinstance(value, dict) else enumerate(value))
            ]
            opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
            body = ",\n  ".join(inner)
            lines.append(f" {json.dumps(name)}: {opening}\n  {body}\n {closing}")
        else:
            lines.append(f" {json.dumps(name)}: {_compact(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parse_run(data: bytes, name: str) -> Run:
    """Read a run's document; `name` is what messages call it.

    Raises:
        RunFileError: it is no run, is damaged, or was made by a newer lab.
    """
    if len(data) > MOST_BYTES:
        raise RunFileError(f"{name} has {len(data) / 2**20:.0f} MiB; a run has at most {MOST_BYTES // 2**20}.")
    try:
        return Run.model_validate_json(data)
    except ValidationError as error:
        first = error
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise RunFileError(f"{name} is damaged or half written: it is no whole JSON document. Take it from its source again.") from None
    version = document.get("version") if isinstance(document, dict) else None
    if isinstance(version, bool) or not isinstance(version, int):
        raise RunFileError(f"{name} is no run of this lab: it has no version.")
    if version > VERSION:
        raise RunFileError(f"{name} has version {version}, made by a newer lab; this one reads up to {VERSION}. Update the lab to read it.")
    if version < VERSION:
        return _upgraded(document, version, name)
    raise RunFileError(f"{name} is damaged: {_where(first)}.")


def _upgraded(document: dict[str, Any], version: int, name: str) -> Run:
    try:
        for step in range(version, VERSION):
            document = {**UPGRADES[step](document), "version": step + 1}
        return Run.model_validate_json(json.dumps(document))
    except (KeyError, TypeError) as error:
        raise RunFileError(f"{name} has version {version} and is damaged, or of a version that never was ({error}).") from None
    except ValidationError as error:
        raise RunFileError(f"{name} has version {version} and is damaged: {_where(error)}.") from None


def _where(error: ValidationError) -> str:
    """The first thing that is wrong, without repeating what stands in the file."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place or 'the document'}: {first['msg']}"[:200]


def read_run(path: Path) -> Run:
    """Read the run in the file `path`.

    Raises:
        RunFileError: as `parse_run`, or the file cannot be read.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RunFileError(f"{path.name} is larger than a run can be ({MOST_BYTES // 2**20} MiB).")
        data = path.read_bytes()
    except OSError as error:
        raise RunFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    return parse_run(data, path.name)


def head_of(run: Run, path: Path) -> RunHead:
    """What a list shows of `run`."""
    measured = [index for index, block in enumerate(run.samples.block) if block != WARM_UP]
    return RunHead(
        id=run.id,
        path=path,
        created=run.created,
        state=run.state,
        machine=run.machine,
        card=run.card,
        weights=run.weights.name,
        configs=tuple(dict.fromkeys(arm.config for arm in run.arms)),
        sets=tuple(dict.fromkeys(text.set for text in run.texts)),
        rounds=run.plan.rounds,
        samples=len(measured),
        invalid=sum(index in run.samples.invalid for index in measured),
    )


_heads: dict[Path, tuple[tuple[int, int], RunHead | Skipped]] = {}
_guard = threading.Lock()


def list_runs(folder: Path | None = None) -> Listing:
    """The runs in `folder` (by default `runs_dir`). Files are read again only when they have changed."""
    folder = folder or runs_dir()
    runs: dict[str, RunHead] = {}
    skipped: list[Skipped] = []
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return Listing((), ())
    except OSError as error:
        raise RunFileError(f"The runs in {folder} cannot be listed: {error.strerror or error}.") from None
    for path in paths:
        if path.name.endswith(PARTIAL):
            skipped.append(Skipped(path, f"was not finished; rename it to {path.name.removesuffix('.partial')} to use what there is"))
        elif path.suffix == ".json":
            found = _head(path)
            if isinstance(found, Skipped):
                skipped.append(found)
            elif found.id in runs:
                skipped.append(Skipped(path, f"holds the same run as {runs[found.id].path.name}"))
            else:
                runs[found.id] = found
    return Listing(tuple(sorted(runs.values(), key=lambda head: head.created, reverse=True)), tuple(skipped))


def _head(path: Path) -> RunHead | Skipped:
    try:
        state = path.stat()
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror or error}")
    stamp = (state.st_mtime_ns, state.st_size)
    with _guard:
        known = _heads.get(path)
    if known and known[0] == stamp:
        return known[1]
    found: RunHead | Skipped
    try:
        found = head_of(read_run(path), path)
    except RunFileError as error:
        found = Skipped(path, str(error).removeprefix(f"{path.name} "))
    with _guard:
        _heads[path] = (stamp, found)
    return found


def find_run(name: str, folder: Path | None = None) -> Run:
    """The run called `name`: the path of a file, an id, the beginning of an id that means one run, or `latest`.

    Raises:
        RunFileError: there is none, or several; or it cannot be read.
    """
    path = Path(name)
    if path.suffix == ".json" or os.sep in name:
        return read_run(path)
    listing = list_runs(folder)
    if name == "latest" and listing.runs:
        return read_run(listing.runs[0].path)
    matching = [head for head in listing.runs if head.id == name] or [head for head in listing.runs if name and head.id.startswith(name)]
    if len(matching) == 1:
        return read_run(matching[0].path)
    if matching:
        raise RunFileError(f"{name[:60]!r} could be {', '.join(head.id for head in matching[:5])}. Write more of it.")
    broken = next((item for item in listing.skipped if name and item.path.name.startswith(name)), None)
    if broken:
        raise RunFileError(f"{broken.path.name} {broken.reason}")
    raise RunFileError(f"There is no run {name[:60]!r} in {folder or runs_dir()}. `python -m lab runs list` shows those there are.")


def run_id(created: datetime, card: str, weights: str) -> str:
    """A name for a run: when, on what, with which weights, to be read in a list of files."""
    weights = Path(weights).name if os.sep in weights else weights
    words = "-".join(re.findall(r"[a-z0-9]+", f"{card} {weights}".lower()))[:60].rstrip("-")
    return f"{created:%Y%m%dT%H%M%SZ}-{words or 'run'}"
