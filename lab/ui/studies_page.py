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
from lab.listening.summary import compared, link_of, progress_of
from lab.store import NotFound
from lab.ui.compare_page import ComparePage
from lab.ui.context import Context, origin_of
from lab.ui.rendering import Event, following, working
from lab.ui.study_frames import TABLES, facts_of, gate_frames, label_of, left_out, many, result_frames
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
_MOST = 2**63  # no number of the form means anything beyond
GONE = "**There is no such study any more.** Choose one of the menu."
NOWHERE = "**There is no study under this link.** It may have been deleted."
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
            voice = self.compare.find_voice(voice_id)
            order = StudyOrder(
                type=kind,
                configs=parse_list(_names(configs, "configurations")),
                texts=choose_study_texts(",".join(_names(texts, "texts")), voice),
                trials=_whole(trials, "number of questions"),
                margin=None if kind == "staircase" else _number(margin),
                title=_words(title).strip(),
                open_until=read_open_until(_words(open_until)),
                seed=_whole(seed, "seed"),
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
        except Exception as error:  # whatever it was, the page has to say so
            _log.exception("showing a new study failed")
            said = (
                f"**Not finished.** {plain(f'{type(error).__name__}: {error}')} Reload the page: if the study was made, it is in the menu."
            )
            yield in_order({"said": said})
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
        offered = [(label_of(study, now), study.token) for study in self.context.studies.list()]
        return gr.update(choices=offered, value=chosen if chosen in {token for _, token in offered} else None)

    def open(self, request: gr.Request) -> list[Any]:
        """Show the study that the address names (`?study=token`), or the newest."""
        try:
            found, broken = self.context.studies.survey()
            wanted = str(dict(request.query_params).get("study") or "")
            chosen = next((study for study in found if study.token == wanted), found[0] if found and not wanted else None)
            if chosen is None:
                said = NOWHERE if wanted and wanted not in {study.token for study in broken} else "" if broken else EMPTY
                said = "\n\n".join(filter(None, (said, left_out(broken))))
                return in_order({"said": said, "studies": self.choices(), "body": gr.update(visible=False)})
            return in_order({**self._shown(chosen, request), "said": left_out(broken), "studies": self.choices(chosen.token)})
        except LabError as error:
            return in_order({"said": f"**The studies cannot be shown.** {plain(str(error))}"})

    def show(self, token: str, request: gr.Request) -> list[Any]:
        """Show a study of the menu."""
        return self._with(token, request, lambda study: study)

    def peek(self, token: str, request: gr.Request) -> list[Any]:
        """Look at an open study, which is recorded; of one that was closed meanwhile show the results, which is no peeking."""

        def noted(study: StoredStudy) -> StoredStudy:
            return self.context.studies.note_peek(study.token) if study.is_open(datetime.now(UTC)) else study

        return self._with(token, request, noted, peek=True)

    def close(self, token: str, request: gr.Request) -> list[Any]:
        """Take no more answers, and show what came."""
        return self._with(token, request, lambda study: self.context.studies.close(study.token), menu=True)

    def delete(self, token: str, asked: str) -> list[Any]:
        """Delete a study with everything listeners left, if it is the one that was `asked` about."""
        if not token or token != asked:
            said = "**Nothing was deleted**: another study is chosen by now. Press Delete… again if this is the one."
            return in_order({"said": said, "delete": gr.update(visible=True), "really": gr.update(visible=False)})
        try:
            self.context.studies.delete(str(token))
        except NotFound:
            return self._gone(GONE)
        except LabError as error:
            return in_order({"said": f"**Nothing was deleted.** {plain(str(error))}"})
        return self._gone("The study is deleted, with all its answers.")

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

    def _gone(self, said: str) -> list[Any]:
        return in_order({"said": said, "studies": self.choices(), "body": gr.update(visible=False)})

    def _with(
        self, token: str, request: gr.Request, what: Callable[[StoredStudy], StoredStudy], *, peek: bool = False, menu: bool = False
    ) -> list[Any]:
        if not token:
            return in_order({})
        try:
            changes = self._shown(what(self.context.studies.load(str(token))), request, peek=peek)
        except NotFound:
            return self._gone(GONE)
        except LabError as error:
            return in_order({"said": f"**This study cannot be shown.** {plain(str(error))}"})
        return in_order({**changes, **({"studies": self.choices(str(token))} if menu else {})})

    def _shown(self, study: StoredStudy, request: gr.Request, *, peek: bool = False) -> dict[str, Any]:
        now = datetime.now(UTC)
        sessions = self.context.studies.sessions(study.token)
        is_open = study.is_open(now)
        locked = is_open and not peek
        changes: dict[str, Any] = {
            "said": "",
            "body": gr.update(visible=True),
            "facts": facts_of(study, progress_of(sessions), now),
            "link": link_of(study, origin_of(request)),
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
            changes |= self._found(study, sessions, now, peek=is_open)
        return changes

    def _found(self, study: StoredStudy, sessions: Sequence[Any], now: datetime, *, peek: bool) -> dict[str, Any]:
        found = results(study, sessions, now=now, peek=peek)
        document = found.document()
        sentences = [row["sentence"] for row in compared(document)]
        people = document["listeners"]
        counted = f"Ratings that count: {document['ratings']}, of {people['counted']} of {many(people['all'], 'listener')}."
        words = [f"### {plain(document['headline'])}", plain(counted), *(f"- {plain(sentence)}" for sentence in sentences)]
        changes: dict[str, Any] = {"headline": "\n\n".join(words[:2]) + "\n\n" + "\n".join(words[2:])}
        try:
            drawn = plots.figures(study, found)
        except Exception:  # a figure that nobody thought of must not take the verdict away
            _log.exception("the figures of a study failed")
            drawn = {}
        changes |= {f"plot {name}": gr.update(value=figure, visible=True) for name, figure in drawn.items() if figure.data}
        return changes | _tables(result_frames(document))


def _names(value: Any, what: str) -> list[str]:
    if not isinstance(value, list | None) or not all(isinstance(name, str) for name in value or []):
        raise LabError(f"Choose {what} by their names.")
    return list(value or [])


def _words(value: Any) -> str:
    if not isinstance(value, str | None):
        raise LabError("The title and the date have to be text.")
    return value or ""


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not abs(value) < _MOST:  # so that NaN is refused as well
        raise LabError("The margin has to be a number, or empty for the usual one.")
    return float(value)


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int | float) or not abs(value) < _MOST or value != int(value):
        raise LabError(f"The {what} has to be a whole number.")
    return int(value)


def _tables(frames: dict[str, Any]) -> dict[str, Any]:
    """Updates of the page's tables; those without rows are not shown."""
    return {
        f"table {name}": gr.update(value=frame, visible=True) if frame is not None and len(frame) else gr.update(value=None, visible=False)
        for name, frame in frames.items()
    }


def in_order(changes: dict[str, Any]) -> list[Any]:
    """The page's outputs as a list, those not named left as they are."""
    return [changes.get(name, gr.skip()) for name in OUTPUTS]
