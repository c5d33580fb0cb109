"""`engines`, `patches`, `voices`, `texts` and `doctor`: what there is, and whether it works here."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table

from lab.cli.output import EXIT_FAILED, console, plain_errors, print_json
from lab.cli.render import DeviceKind, Json, WeightsName
from lab.compare import max_seconds
from lab.config import REGISTRY, parse
from lab.engine import patching
from lab.engine.device import fitness, probe
from lab.engine.pool import workers_from_environment
from lab.engine.weights import HUB, Choice, cached, choose, resolve
from lab.errors import LabError
from lab.store import Store


def _numbers(patches: tuple[str, ...]) -> str:
    """The patches by their numbers, joined by +."""
    return "+".join(name.split("-")[0] for name in patches)


def engines_command(
    specs: Annotated[list[str] | None, typer.Argument(help="NAME or NAME:field=value; default: all named configurations.")] = None,
    device: DeviceKind = "auto",
    as_json: Json = False,
) -> None:
    """List the engine configurations, what each is, and whether this machine can run it."""
    with plain_errors(as_json):
        found = probe(device)
        rows = []
        table = Table("configuration", "patches", "NFE", "here", "what it is", header_style="bold")
        table.columns[0].no_wrap = table.columns[1].no_wrap = True
        for config in [parse(spec) for spec in specs or []] or list(REGISTRY.values()):
            fit = fitness(config, found)
            here = f"no: {fit.refused}" if fit.refused else "in part" if fit.inert else "yes"
            table.add_row(
                escape(config.name),
                _numbers(config.patches) or "-",
                str(config.nfe),
                here,
                f"{config.summary}. {fit.without_effect}".strip(),
            )
            rows.append(
                {"config": config.name, "digest": config.digest, "summary": config.summary, **config.settings, **dataclasses.asdict(fit)}
            )
        console.print(f"{found.kind}: {found.name}, torch {found.torch}", markup=False)
        console.print(table)
        if as_json:
            print_json({"device": dataclasses.asdict(found), "engines": rows})


patches_app = typer.Typer(help="Check, show and export the patches against f5-tts.", no_args_is_help=True)


@patches_app.command("check")
def patches_check(as_json: Json = False) -> None:
    """Apply every subset that the configurations use, strictly, and say what each overlay is."""
    with plain_errors(as_json):
        sets = sorted({config.patches for config in REGISTRY.values()}, key=lambda names: (len(names), names))
        table = Table("patches", "overlay", "state", header_style="bold")
        rows: list[dict[str, Any]] = []
        for names in sets:
            try:
                overlay = patching.build_overlay(names)
                rows.append({"patches": names, "overlay": overlay.digest, "path": str(overlay.root), "state": "ok"})
            except LabError as error:
                rows.append({"patches": names, "overlay": None, "path": None, "state": str(error)})
            table.add_row(" + ".join(names) or "none", (rows[-1]["overlay"] or "")[:16], rows[-1]["state"])
        console.print(table)
        if as_json:
            print_json({"f5_tts": patching.F5_TTS_VERSION, "overlays": rows})
    if any(row["state"] != "ok" for row in rows):
        raise typer.Exit(EXIT_FAILED)


@patches_app.command("show")
def patches_show(
    name: Annotated[str | None, typer.Argument(help="A patch, by name or number; default: the table of all.")] = None, as_json: Json = False
) -> None:
    """Show the series, or one patch with its diff."""
    with plain_errors(as_json):
        series = patching.load_series()
        if name is None:
            table = Table("patch", "what it does", "claimed", "numerics", header_style="bold")
            table.columns[0].no_wrap = True
            for patch in series:
                table.add_row(patch.name, patch.subject, patch.claimed, patch.numerics)
            console.print(table)
        else:
            series = tuple(patch for patch in series if patch.is_called(name))
            if not series:
                raise patching.PatchError(f"There is no patch {name!r}: `python -m lab patches show` lists them.")
            text = series[0].path.read_text(encoding="utf-8")
            if console.is_terminal:
                console.print(Syntax(text, "diff", theme="ansi_dark", word_wrap=True))
            else:
                typer.echo(text, nl=False)  # as it is, so that it can be piped into git apply
        if as_json:
            rows = [{**dataclasses.asdict(patch), "path": str(patch.path), "sha256": patch.sha256} for patch in series]
            print_json({"patches": rows})


@patches_app.command("export")
def patches_export(
    folder: Annotated[Path, typer.Argument(help="Where to put a whole patched f5_tts package; must not exist.", exists=False)],
    patches: Annotated[str, typer.Option("--patches", "-p", help="Names or numbers joined by +, or a configuration's name.")] = "optimized",
    as_json: Json = False,
) -> None:
    """Write the patched f5_tts package to a folder that can stand first on PYTHONPATH, with a combined diff beside it."""
    with plain_errors(as_json):
        if folder.exists():
            raise LabError(f"{folder} exists already: name a folder that does not.")
        names = parse(patches).patches if patches.split(":")[0] in REGISTRY else tuple(patches.split("+"))
        overlay = patching.build_overlay(names)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            shutil.copytree(overlay.root, Path(work) / "out", ignore=shutil.ignore_patterns("__pycache__"))
            diff = "".join(patch.path.read_text(encoding="utf-8") for patch in patching.select(names))
            (Path(work) / "out" / "patches.diff").write_text(diff, encoding="utf-8")
            (Path(work) / "out").rename(folder)
        console.print(f"{folder}: f5_tts with {' + '.join(overlay.patches) or 'no patch'}, overlay {overlay.digest[:16]}", markup=False)
        if as_json:
            print_json({"path": str(folder), "patches": overlay.patches, "overlay": overlay.digest})


def voices_command(as_json: Json = False) -> None:
    """List the bundled voices."""
    from lab.voices import bundled_voices

    table = Table("voice", "name", "language", "seconds", "for weights", "transcript", header_style="bold")
    rows = [{**dataclasses.asdict(voice), "path": str(voice.path)} for voice in bundled_voices()]
    for row in rows:
        table.add_row(row["id"], row["name"], row["language"], f"{row['seconds']:.1f}", row["suits"], escape(row["transcript"]))
    console.print(table)
    if as_json:
        print_json({"voices": rows})


def texts_command(as_json: Json = False) -> None:
    """List the example texts."""
    from lab.texts import sentences

    table = Table("id", "language", "text", header_style="bold")
    for sentence in sentences():
        table.add_row(sentence.id, sentence.language, sentence.text)
    console.print(table)
    if as_json:
        print_json({"texts": [dataclasses.asdict(sentence) for sentence in sentences()]})


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    state: str  # "ok", "missing" or "broken"; "missing" of something optional does not fail
    detail: str
    mend: str = ""
    needed: bool = True


_PACKAGES = (
    "gradio",
    "torch",
    "torchaudio",
    "f5-tts",
    "vocos",
    "pandas",
    "plotly",
    "soundfile",
    "patch-ng",
    "SQLAlchemy",
    "pydantic",
    "distributed",
)


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", "not installed", "pip install -r requirements.txt")


def _try(what: str, look: Callable[[], str], mend: str = "", *, needed: bool = True) -> Finding:
    try:
        return Finding(what, "ok", look(), needed=needed)
    except (LabError, OSError) as error:
        return Finding(what, "broken", str(error), mend, needed)


def _chosen(choice: Choice) -> str:
    return f"{choice.weights.name}: {choice.reason}"


def _environment() -> str:
    return f"{workers_from_environment()} workers kept, {max_seconds():g} s of speech at most"


def _data_folder() -> str:
    store = Store.open()
    store.close()
    return str(store.data_dir)


def _overlay(names: tuple[str, ...]) -> Finding:
    return _try(
        f"overlay {_numbers(names) or 'unpatched'}", lambda: str(patching.build_overlay(names).root), "pip install -r requirements.txt"
    )


def examine(device: str, weights: str) -> list[Finding]:
    """Look at everything a render needs."""
    from lab.voices import bundled_voices

    findings = [_package(name) for name in _PACKAGES]
    try:
        found = probe(device)
    except LabError as error:
        return [*findings, Finding("device", "broken", str(error), "pip install -r requirements.txt")]
    findings.append(Finding("device", "ok", f"{found.kind}: {found.name}, torch {found.torch}"))
    findings.append(
        Finding("C++ compiler", "ok" if found.compiler else "missing", "for the configuration compile", "apt-get install g++", needed=False)
    )
    for name in HUB:
        there = cached(resolve(name))
        mend = "downloaded at first use, where the hub can be reached"
        findings.append(
            Finding(f"weights {name}", "ok" if there else "missing", "in the local cache" if there else "not cached", mend, needed=False)
        )
    findings.append(_try("weights to start with", lambda: _chosen(choose(weights, found))))
    findings.append(_try("environment", _environment, "correct or unset the variable"))
    findings.append(_try("data folder", _data_folder, "set LAB_DATA_DIR to a folder that can be written"))
    findings.append(_try("voices", lambda: ", ".join(voice.id for voice in bundled_voices())))
    findings += [_overlay(names) for names in sorted({config.patches for config in REGISTRY.values()})]
    return findings


def doctor_command(device: DeviceKind = "auto", weights: WeightsName = "auto", as_json: Json = False) -> None:
    """Say what is installed and what works: packages, device, weights, voices, overlays, each with how to mend it.

    Exits with 1 when something needed is missing.
    """
    with plain_errors(as_json):
        findings = examine(device, weights)
        table = Table("what", "state", "detail and how to mend", header_style="bold")
        table.columns[0].no_wrap = True
        for finding in findings:
            colour = "green" if finding.state == "ok" else "red" if finding.needed else "yellow"
            table.add_row(
                finding.what,
                f"[{colour}]{finding.state}[/]",
                escape(finding.detail if finding.state == "ok" or not finding.mend else f"{finding.detail} To mend: {finding.mend}"),
            )
        console.print(table)
        if as_json:
            print_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
    if any(finding.state != "ok" and finding.needed for finding in findings):
        raise typer.Exit(EXIT_FAILED)
