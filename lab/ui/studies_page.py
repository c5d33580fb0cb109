"""What the Studies page does: makes studies, shows what listeners found, closes and deletes. `studies_layout` says where things are on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from lab.config import parse_list
from lab.errors import LabError
from lab.listening import export, plots
from lab.listening.creating import Created, create_study
from lab.listening.model import StoredStudy, TestType
from lab.listening.ordering import StudyOrder, choose_study_texts, read_open_until
from lab.listening.results import LOCKED, results
from lab.listening.summary import link_of, progress_of, state_of
from lab.store import NotFound
from lab.ui.compare_page import ComparePage
from lab.ui.context import Context
from lab.ui.rendering import Event, following, working
from lab.ui.study_frames import TABLES, gate_frames, result_frames
from lab.ui.words import plain

_log = logging.getLogger(__name__)
_TRACKER = gr.Progress()  # Gradio puts the real one in its place

PLOTS = {
    "comparisons": "Verdicts",
    "evidence": "Evidence, answer by answer",
    "ratings": "Ratings",
    "listeners": "Listeners",
    "staircase": "Staircases",
}
RESULTS = tuple(name for name in TABLES if name not in ("checks", "pairs"))
OUTPUTS = (
    "said", "studies", "body", "facts", "link", "headline", "locked", "peek", "close", "found",
    *(f"plot {name}" for name in PLOTS), *(f"table {name}" for name in TABLES), "files", "delete", "really", "create", "stop",
)  # fmt: skip
STOP = "Stop"
EMPTY = "**No study yet.** Make one above: it takes as long as rendering its clips."


class StudiesPage:
    """The Studies page's behaviour over one `Context`."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.compare = ComparePage(context)

    # ---- making a study

    def create(
        self,
        kind: TestType,
        configs: list[str],
        texts: list[str],
        voice_id: str,
        trials: float,
        margin: float | None,
        open_until: str,
        title: str,
        seed: float,
        own_results: bool,
        request: gr.Request,
        progress: gr.Progress = _TRACKER,
    ) -> Iterator[list[Any]]:
        """Render, judge and store a study, yielding the page's outputs on the way."""
        session = f"studies {request.session_hash}"
        try:
            if trials is None or seed is None or trials != int(trials) or seed != int(seed):
                raise LabError("Trials and seed have to be whole numbers.")
            voice = self.compare.find_voice(voice_id)
            order = StudyOrder(
                type=kind,
                configs=parse_list(list(configs or [])),
                texts=choose_study_texts(",".join(texts or []), voice),
                trials=int(trials),
                margin=margin if kind != "staircase" else None,
                title=(title or "").strip(),
                open_until=read_open_until(open_until or None),
                seed=int(seed),
                own_results=bool(own_results),
            )
        except LabError as error:
            yield in_order({"said": f"**No study was made.** {plain(str(error))}"})
            return
        cancel = self.context.jobs.begin(session)

        def work(tell: Callable[[Event], None]) -> None:
            made = create_study(order, self.context.pool, self.context.studies, voice, cancel=cancel, progress=following(tell))
            tell(Event("done", made))

        try:
            yield in_order({"said": "Checking…", "create": gr.update(interactive=False), "stop": gr.update(interactive=True)})
            yield from self._follow(working(work), request, progress)
        finally:
            cancel.set()  # also when the browser goes away in the middle
            self.context.jobs.end(session, cancel)

    def _follow(self, events: Iterator[Event], request: gr.Request, progress: Any) -> Iterator[list[Any]]:
        told = time.monotonic()
        for event in events:
            if event.kind == "progress":
                stage, done, total = event.value
                progress(min(done / total, 0.99) if total else None, desc=stage)
                if time.monotonic() - told >= 1:
                    told = time.monotonic()
                    yield in_order({"said": plain(stage)})
            elif event.kind == "done":
                made: Created = event.value
                said = f"**The study is made**: {made.clips} clips. Send its link to listeners."
                yield in_order({**self._shown(made.study, request), "said": said, "studies": self.choices(made.study.token)})
            elif event.kind == "stopped":
                yield in_order({"said": "**Stopped.** Nothing was stored, and the engine is free again."})
            else:
                yield in_order({"said": f"**No study was made.** {plain(str(event.value))}"})

    @staticmethod
    def rest() -> tuple[Any, Any]:
        """Create and Stop when nothing is running."""
        return gr.update(interactive=True), gr.update(value=STOP, interactive=False)

    def stop(self, request: gr.Request) -> Any:
        """End the making of a study in this tab."""
        return gr.skip() if self.context.jobs.stop(f"studies {request.session_hash}") else self.rest()[1]

    # ---- looking at one

    def choices(self, chosen: str | None = None) -> Any:
        """The menu of studies."""
        now = datetime.now(UTC)
        offered = [(_label(study, now), study.token) for study in self.context.studies.list()]
        return gr.update(choices=offered, value=chosen if chosen in {token for _, token in offered} else None)

    def open(self, request: gr.Request) -> list[Any]:
        """Show the study that the address names (`?study=token`), or the newest."""
        try:
            found = self.context.studies.list()
            wanted = str(dict(request.query_params).get("study") or "")
            chosen = next((study for study in found if study.token == wanted), found[0] if found and not wanted else None)
            if chosen is None:
                said = "**There is no study under this link.** It may have been deleted." if wanted else EMPTY
                return in_order({"said": said, "studies": self.choices(), "body": gr.update(visible=False)})
            return in_order({**self._shown(chosen, request), "studies": self.choices(chosen.token)})
        except LabError as error:
            return in_order({"said": f"**The studies cannot be shown.** {plain(str(error))}"})

    def show(self, token: str, request: gr.Request) -> list[Any]:
        """Show a study of the menu."""
        return self._with(token, request, lambda study: study)

    def peek(self, token: str, request: gr.Request) -> list[Any]:
        """Look at an open study, which is recorded."""
        return self._with(token, request, lambda study: self.context.studies.note_peek(study.token), peek=True)

    def close(self, token: str, request: gr.Request) -> list[Any]:
        """Take no more answers, and show what came."""
        return self._with(token, request, lambda study: self.context.studies.close(study.token), menu=True)

    def delete(self, token: str, request: gr.Request) -> list[Any]:
        """Delete a study with everything listeners left."""
        try:
            self.context.studies.delete(str(token or ""))
        except LabError as error:
            return in_order({"said": plain(str(error))})
        return in_order(
            {"said": "The study is deleted, with all its answers.", "studies": self.choices(), "body": gr.update(visible=False)}
        )

    def export(self, token: str, request: gr.Request) -> Any:
        """Files of a closed study: a row for each rating, and the manifest with them."""
        try:
            study = self.context.studies.load(str(token or ""))
            if study.is_open(datetime.now(UTC)) and study.peeked_at is None:
                raise LabError(LOCKED)
            sessions = self.context.studies.sessions(study.token)
            folder = self.context.new_folder()
            paths = [folder / f"study-{study.token}.{ending}" for ending in ("csv", "json")]
            for path in paths:
                export.write(study, sessions, path)
        except LabError as error:
            raise gr.Error(plain(str(error))) from None
        return gr.update(value=[str(path) for path in paths], visible=True)

    def _with(
        self, token: str, request: gr.Request, what: Callable[[StoredStudy], StoredStudy], *, peek: bool = False, menu: bool = False
    ) -> list[Any]:
        if not token:
            return in_order({})
        try:
            changes = self._shown(what(self.context.studies.load(str(token))), request, peek=peek)
        except NotFound:
            return in_order({"said": "**There is no such study any more.**", "studies": self.choices(), "body": gr.update(visible=False)})
        except LabError as error:
            return in_order({"said": f"**This study cannot be shown.** {plain(str(error))}"})
        return in_order({**changes, **({"studies": self.choices(str(token))} if menu else {})})

    def _shown(self, study: StoredStudy, request: gr.Request, *, peek: bool = False) -> dict[str, Any]:
        now = datetime.now(UTC)
        sessions = self.context.studies.sessions(study.token)
        is_open = study.is_open(now)
        locked = is_open and not peek
        origin = request.headers.get("origin") or f"http://{request.headers.get('host', '')}"
        changes: dict[str, Any] = {
            "said": "",
            "body": gr.update(visible=True),
            "facts": facts(study, progress_of(sessions), now),
            "link": link_of(study, origin),
            "locked": gr.update(visible=locked),
            "peek": gr.update(visible=locked),
            "close": gr.update(visible=is_open),
            "found": gr.update(visible=not locked),
            "headline": "",
            "files": gr.update(value=None, visible=False),
            "delete": gr.update(visible=True),
            "really": gr.update(visible=False),
            **{f"plot {name}": gr.update(value=None, visible=False) for name in PLOTS},
            **_tables(dict.fromkeys(TABLES) | gate_frames(study.manifest.gate)),
        }
        if not locked:
            changes |= self._found(study, sessions, now, peek=peek)
        return changes

    def _found(self, study: StoredStudy, sessions: Sequence[Any], now: datetime, *, peek: bool) -> dict[str, Any]:
        found = results(study, sessions, now=now, peek=peek)
        document = found.document()
        sentences = [row["sentence"] for row in (*document["comparisons"], *([document["yardstick"]] if document["yardstick"] else []))]
        people = document["listeners"]
        counted = f"{document['ratings']} ratings that count, of {people['counted']} of {people['all']} listeners."
        words = [f"### {plain(document['headline'])}", plain(counted), *(f"- {plain(sentence)}" for sentence in sentences)]
        changes: dict[str, Any] = {"headline": "\n\n".join(words[:2]) + "\n\n" + "\n".join(words[2:])}
        try:
            drawn = plots.figures(study, found)
        except Exception:  # a figure that nobody thought of must not take the verdict away
            _log.exception("the figures of a study failed")
            drawn = {}
        changes |= {f"plot {name}": gr.update(value=figure, visible=True) for name, figure in drawn.items()}
        return changes | _tables(result_frames(document))


def facts(study: StoredStudy, progress: dict[str, int], now: datetime) -> str:
    """What a study is, in a few lines of Markdown."""
    manifest = study.manifest
    others = ", ".join(plain(config.name) for config in manifest.configs[1:])
    margin = "" if manifest.type == "staircase" else f", margin {manifest.margin:g}"
    peeked = f" Looked at while open, on {study.peeked_at:%Y-%m-%d}: only anytime-valid figures decide." if study.peeked_at else ""
    return (
        f"**{plain(manifest.title)}** · {manifest.type} · {plain(state_of(study, now))}\n\n"
        f"**{plain(manifest.reference)}** against {others}. {manifest.trials} questions that count per listener{margin}; "
        f"{len(manifest.texts)} texts, voice {plain(manifest.voice)}, weights {plain(manifest.weights)} on {plain(manifest.device)}, "
        f"seed {manifest.seed}. {progress['listeners']} listeners, {progress['with all trials answered']} of them with all trials answered, "
        f"{progress['ratings']} ratings.{peeked}\n\nManifest `{study.manifest_sha256[:16]}…`"
    )


def _label(study: StoredStudy, now: datetime) -> str:
    return f"{study.manifest.created_at:%Y-%m-%d} · {study.manifest.type} · {study.manifest.title[:60]} · {state_of(study, now)}"


def _tables(frames: dict[str, Any]) -> dict[str, Any]:
    """Updates of the page's tables; those without rows are not shown."""
    return {
        f"table {name}": gr.update(value=frame, visible=True) if frame is not None and len(frame) else gr.update(value=None, visible=False)
        for name, frame in frames.items()
    }


def in_order(changes: dict[str, Any]) -> list[Any]:
    """The page's outputs as a list, those not named left as they are."""
    return [changes.get(name, gr.skip()) for name in OUTPUTS]
