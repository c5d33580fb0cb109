"""`study`: make, list, show, evaluate, export, close and delete listening tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lab.cli.output import console, following, plain_errors, print_json, stoppable
from lab.cli.render import Consent, DeviceKind, Json, Transcript, VoiceName, WeightsName, chosen_voice
from lab.cli.study_tables import print_created, print_results, print_study
from lab.config import parse_list
from lab.engine.device import probe
from lab.engine.pool import EnginePool, workers_from_environment
from lab.engine.weights import choose
from lab.errors import LabError
from lab.listening import export
from lab.listening.creating import create_study
from lab.listening.gate_report import SILENCE_MS
from lab.listening.model import TYPES, StoredStudy, StudyError, TestType, Text
from lab.listening.ordering import StudyOrder, choose_study_texts, read_open_until, texts_of_file
from lab.listening.results import results
from lab.listening.summary import facts_of, link_of, progress_of
from lab.store import Store
from lab.study_rows import BrokenStudy
from lab.study_store import Studies
from lab.voices import Voice

study_app = typer.Typer(help="Make blind listening tests, and see what came of them.", no_args_is_help=True)
ADDRESS = "http://127.0.0.1:7860"
StudyName = Annotated[str, typer.Argument(help="A study: its token, the beginning of it, or latest.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Default: LAB_DATA_DIR, or the user's data folder.", file_okay=False)]
Address = Annotated[str, typer.Option("--address", help="Where listeners reach the lab; the link begins with it.")]
Peek = Annotated[
    bool,
    typer.Option(
        "--peek", help="Look though the study is still open. It is recorded, and only figures that stay valid under peeking are shown."
    ),
]


@contextmanager
def _studies(data_dir: Path | None, as_json: bool) -> Iterator[Studies]:
    with plain_errors(as_json):
        store = Store.open(data_dir)
        try:
            yield Studies(store)
        finally:
            store.close()


def find_study(studies: Studies, name: str) -> StoredStudy:
    """The study that `name` means: a token, the beginning of just one, or `latest`.

    Raises:
        StudyError: there is none, more than one, or it cannot be used.
    """
    found = _named(studies, name)
    if isinstance(found, BrokenStudy):
        raise StudyError(found.reason)
    return found


def _named(studies: Studies, name: str) -> StoredStudy | BrokenStudy:
    """As `find_study`, but also one that cannot be used; the latest is one that can, if there is any."""
    whole, broken = studies.survey()
    found: list[StoredStudy | BrokenStudy] = [*whole, *broken]
    if not found:
        raise StudyError("There is no study yet. Make one with `study create`.")
    if name == "latest":
        return found[0]
    fitting = [study for study in found if study.token.startswith(name)] if name else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StudyError(f"{len(fitting)} studies begin with {name[:40]!r}: write more of the token.")
    raise StudyError(f"There is no study {name[:40]!r}. `study list` shows those there are.")


def _type(name: str) -> TestType:
    for known in TYPES:
        if name == known:
            return known
    raise StudyError(f"There is no test type {name[:40]!r}. There are {', '.join(TYPES)}.")


def _texts(names: str | None, file: Path | None, voice: Voice) -> tuple[Text, ...]:
    if names is not None and file is not None:
        raise StudyError("Give either --texts or --text-file.")
    return texts_of_file(file) if file is not None else choose_study_texts(names or "", voice)


@study_app.command("create")
def study_create(
    type: Annotated[
        str,
        typer.Option(
            "--type",
            help="ab (preference), abx (can it be told?), acr (quality 1 to 5), ccr (comparison -3 to 3), mushra (0 to 100), staircase (lowest NFE"
            " that passes).",
            metavar="|".join(TYPES),
        ),
    ],
    configs: Annotated[
        str,
        typer.Option(
            "--configs",
            "-c",
            help="Configurations, separated by commas, each NAME or NAME:field=value:…; the first is the reference. Of a staircase the reference alone.",
        ),
    ],
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts", "-t", help="Texts, separated by commas: ids, or the sets short, medium, long (default: up to eight short ones)."
        ),
    ] = None,
    text_file: Annotated[
        Path | None,
        typer.Option("--text-file", help="Read the texts from a UTF-8 file instead, one per line.", dir_okay=False, exists=True),
    ] = None,
    voice: VoiceName = None,
    voice_text: Transcript = "",
    consent: Consent = False,
    trials: Annotated[int, typer.Option("--trials", "-n", help="Questions that count, per listener.")] = 16,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            help="The difference that does not matter: a share of answers for ab and abx (default 0.7), points for acr and ccr (0.5) and mushra (10).",
        ),
    ] = None,
    open_until: Annotated[
        str | None, typer.Option("--open-until", help="Date, or date and time, after which nobody can answer.", metavar="DATE")
    ] = None,
    title: Annotated[
        str, typer.Option("--title", help="What your team calls it; listeners never see it (default: what is compared).")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", "-s", help="Decides the noise, together with the text.")] = 1,
    other_seed: Annotated[int | None, typer.Option("--other-seed", help="Of the yardstick trials (default: the seed after it).")] = None,
    weights: WeightsName = "auto",
    device: DeviceKind = "auto",
    silence_ms: Annotated[
        float, typer.Option("--silence-ms", help="How far apart the silences at the edges of a pair may be; others are left out.")
    ] = SILENCE_MS,
    no_own_results: Annotated[bool, typer.Option("--no-own-results", help="Do not show listeners their own results at the end.")] = False,
    address: Address = ADDRESS,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Render the clips, pass them through the gate, and print the link for listeners.

    Pairs that are the same bit for bit are not asked about; if all are, there is no study, and that is the result. Nothing is stored unless all of it is.
    """
    with _studies(data_dir, as_json) as studies:
        kind, until = _type(type), read_open_until(open_until)
        chosen = parse_list(configs)
        found = probe(device)
        choice = choose(weights, found)
        with (
            chosen_voice((voice, voice_text, consent), choice.weights.kind) as speaker,
            stoppable() as cancel,
            EnginePool(choice.weights, found, max_workers=workers_from_environment()) as pool,
            following() as follower,
        ):
            order = StudyOrder(
                type=kind,
                configs=chosen,
                texts=_texts(texts, text_file, speaker),
                trials=trials,
                margin=margin,
                title=title,
                open_until=until,
                seed=seed,
                other_seed=other_seed,
                silence_ms=silence_ms,
                own_results=not no_own_results,
            )
            created = create_study(order, pool, studies, speaker, cancel=cancel, progress=follower)
        console.print(f"{choice.weights.name} on {found.name} ({choice.reason})", markup=False, style="dim", soft_wrap=True)
        link = link_of(created.study, address)
        print_created(created, link)
        if as_json:
            print_json({"study": created.study.token, "link": link, "clips": created.clips, "gate": created.report.document()})


@study_app.command("list")
def study_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the studies, the newest first."""
    with _studies(data_dir, as_json) as studies:
        now = datetime.now(UTC)
        whole, broken = studies.survey()
        rows = [facts_of(study, now) for study in whole]
        table = Table("study", "created", "type", "title", "state", "configurations", header_style="bold")
        table.columns[0].no_wrap = True
        for row in rows:
            cells = (row["study"], row["created"][:16], row["type"], row["title"], row["state"], ", ".join(row["configs"]))
            table.add_row(*map(escape, cells))
        for study in broken:
            table.add_row(*map(escape, (study.token, study.created_at.isoformat()[:16], study.type, study.title, "broken", "")))
        console.print(table)
        for study in broken:
            console.print(study.reason, markup=False, style="red", soft_wrap=True)
        if as_json:
            print_json({"studies": rows, "broken": [{"study": study.token, "reason": study.reason} for study in broken]})


@study_app.command("show")
def study_show(study: StudyName = "latest", address: Address = ADDRESS, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what a study is: configurations, texts, questions, what the gate found, and how far listeners are; none of their answers."""
    with _studies(data_dir, as_json) as studies:
        found = find_study(studies, study)
        progress = progress_of(studies.sessions(found.token))
        facts = {**facts_of(found, datetime.now(UTC)), "link": link_of(found, address), **progress}
        print_study(found, facts)
        if as_json:
            print_json({**facts, "manifest_sha256": found.manifest_sha256, "manifest": found.manifest.model_dump(mode="json")})


def _opened(studies: Studies, name: str, peek: bool) -> tuple[StoredStudy, bool]:
    """A study whose ratings somebody is going to look at, and whether that is peeking, which is recorded first."""
    found = find_study(studies, name)
    peeking = peek and found.is_open(datetime.now(UTC))
    return (studies.note_peek(found.token) if peeking else found), peeking


@study_app.command("results")
def study_results(study: StudyName = "latest", peek: Peek = False, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say what a study found. Locked while it is open, unless you --peek."""
    with _studies(data_dir, as_json) as studies:
        found, peeking = _opened(studies, study, peek)
        document = results(found, studies.sessions(found.token), now=datetime.now(UTC), peek=peeking).document()
        print_results(document)
        if as_json:
            print_json({"study": found.token, **document})


@study_app.command("export")
def study_export(
    study: StudyName,
    out: Annotated[Path, typer.Argument(help="The file to write: .csv (a row per rating) or .json (the manifest too).", dir_okay=False)],
    peek: Peek = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write every rating that stands, one row each; listeners are numbered. Locked while the study is open, unless you --peek."""
    with _studies(data_dir, as_json) as studies:
        export.check_name(out)
        now = datetime.now(UTC)
        if find_study(studies, study).is_open(now) and not peek:
            raise StudyError(
                "The answers are locked while the study is open. Close it with `study close`, or look with --peek, which is recorded."
            )
        found, _ = _opened(studies, study, peek)
        rows = export.write(found, studies.sessions(found.token), out)
        console.print(f"Wrote {rows} ratings to {out}", markup=False, soft_wrap=True)
        if as_json:
            print_json({"study": found.token, "path": str(out), "rows": rows})


@study_app.command("close")
def study_close(study: StudyName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Take no more answers; the results can be seen from then on."""
    with _studies(data_dir, as_json) as studies:
        closed = studies.close(find_study(studies, study).token)
        console.print(f"Closed {closed.token}.", markup=False)
        if as_json:
            print_json({"closed": closed.token})


@study_app.command("delete")
def study_delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Delete a study with all its answers, and the audio that nothing else uses."""
    with _studies(data_dir, as_json) as studies:
        found = _named(studies, study)
        count = progress_of(studies.sessions(found.token))
        there = f"{count['ratings']} {'rating' if count['ratings'] == 1 else 'ratings'}"
        title = found.title if isinstance(found, BrokenStudy) else found.manifest.title
        question = f"Delete {title!r} ({found.token}) with {there}?"
        if not yes and not typer.confirm(question, err=True):
            raise LabError("Nothing was deleted.")
        studies.delete(found.token)
        console.print(f"Deleted {found.token}.", markup=False)
        if as_json:
            print_json({"deleted": found.token})
