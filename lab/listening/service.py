"""The server's half of a listening test: what a listener's page may ask, and what it is told. Nothing here names a configuration.

The page asks with one JSON object, `{"do": "open" | "begin" | "note" | "clip" | "rate", …}`, and gets one back. All state is in the database and in what is
signed with the study's secret: a server that is killed and started again goes on with every listener where they were.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lab.listening import design, sealing
from lab.listening.model import Answer, Presentation, StoredRating, StoredSession, StoredStudy, StoredTrial, StudyError
from lab.listening.own_results import own_results
from lab.listening.results import results
from lab.store import NotFound
from lab.study_store import Studies

_log = logging.getLogger(__name__)

MOST_SESSIONS = 5000  # of one study: a flood of beginnings stops here, and listeners so many do not come
_COMMENT = 1000  # characters
_TOLERANCE = 0.95  # of the seconds that a clip has to sound: clocks differ, and a browser counts whole blocks
_NOTES = ("headphones", "volume")
_NOTE_LENGTH = 2000
_KEPT_VERDICTS = 64


class Refused(StudyError):
    """The page asked for something it cannot have; the message is for the listener."""


@dataclasses.dataclass(frozen=True)
class _Now:
    """A moment of a session."""

    study: StoredStudy
    session: StoredSession

    @property
    def trial(self) -> StoredTrial | None:
        """The trial to be answered next; None when all are."""
        return next((trial for trial in self.session.trials if trial.rating is None), None)


class Listening:
    """Answers listeners' pages. Safe from several threads."""

    def __init__(self, studies: Studies, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives seconds since the epoch."""
        self._studies = studies
        self._clock = clock
        self._verdicts: dict[str, str] = {}
        self._judging = threading.Lock()

    def answer(self, question: object) -> dict[str, Any]:
        """Answer a page. What goes wrong is said in `{"error": text, "kind": …}`, in words for listeners; the rest is in the log."""
        what: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "open": self._open,
            "begin": self._begin,
            "note": self._note,
            "clip": self._clip,
            "rate": self._rate,
        }
        try:
            if not isinstance(question, dict) or question.get("do") not in what:
                raise Refused("This page is not of this version of the lab. Load it again.")
            return what[question["do"]](question)
        except NotFound:
            return {"error": "There is no listening test under this link. Check that the link is whole.", "kind": "unknown"}
        except StudyError as error:  # written for listeners, like those of this module
            return {"error": str(error), "kind": "refused"}
        except Exception:  # whatever it was: its words are not for listeners, and could name what they must not know
            _log.exception("a listener's page could not be answered")
            return {"error": "The server could not do that just now. Nothing is lost; try again in a moment.", "kind": "trouble"}

    # ---- what a page may ask

    def _open(self, question: dict[str, Any]) -> dict[str, Any]:
        study = self._studies.load(_text(question, "study", 64))
        given = question.get("session")
        if given:
            try:
                return self._view(self._moment(study.token, given))
            except NotFound:
                pass  # of another data folder: begin anew
        if not self._is_open(study):
            return {"screen": "closed"}
        return {"screen": "welcome", "study": self._about(study)}

    def _begin(self, question: dict[str, Any]) -> dict[str, Any]:
        study = self._studies.load(_text(question, "study", 64))
        listener = _text(question, "listener", 64, least=16)
        if question.get("consent") is not True:
            raise Refused("Please agree first.")
        if not self._is_open(study):
            return {"screen": "closed"}

        def planned(number: int) -> tuple[Presentation, ...]:
            if number >= MOST_SESSIONS:
                raise Refused("This test has as many listeners as it can take. Thank you.")
            return design.plan(study.manifest, number)

        session = self._studies.join(study.token, listener, planned)
        return self._view(_Now(study, session))

    def _note(self, question: dict[str, Any]) -> dict[str, Any]:
        now = self._moment(_text(question, "study", 64), question.get("session"))
        kind, value = question.get("kind"), question.get("value")
        if kind not in _NOTES or not isinstance(value, dict) or len(repr(value)) > _NOTE_LENGTH:
            raise Refused("This cannot be noted.")
        if sum(noted == kind for noted, _, _ in now.session.events) < 20:  # a flood adds nothing
            self._studies.add_event(now.session.token, kind, value)
        return {"noted": kind}

    def _clip(self, question: dict[str, Any]) -> dict[str, Any]:
        """The audio of one slot of the trial that is to be answered, and a receipt for it."""
        now = self._moment(_text(question, "study", 64), question.get("session"))
        wanted = _text(question, "token", 64)
        for trial in self._playable(now):
            for slot, place in enumerate(trial.presentation.slots):
                if self._token(now, trial.number, slot) == wanted:
                    wav = self._studies.clip(now.study.token, now.study.manifest.stimuli[place].sha256)
                    return {**sealing.seal(wav)._asdict(), "receipt": sealing.receipt(now.study.secret, wanted, self._milliseconds())}
        raise Refused("This clip is not part of the question that is open. Load the page again.")

    def _rate(self, question: dict[str, Any]) -> dict[str, Any]:
        now = self._moment(_text(question, "study", 64), question.get("session"))
        number, key = question.get("trial"), _text(question, "key", 64, least=8)
        trial = next((trial for trial in now.session.trials if trial.number == number), None)
        if trial is None or isinstance(number, bool):
            raise Refused("There is no such question.")
        if not self._is_open(now.study):
            return {"accepted": False, "state": self._view(now)}
        revise = question.get("revise") is True
        if trial.rating is not None and not (revise and self._revisable(now) == trial.number):
            return {"accepted": False, "state": self._view(now)}  # sent twice, or answered in another tab: the first one stands
        if trial.rating is None and trial != now.trial:
            return {"accepted": False, "state": self._view(now)}
        answer = design.check_answer(now.study.manifest, trial.presentation, question.get("answer"))
        heard, seconds = self._heard(now, trial, question)
        stored = self._studies.rate(
            now.session.token,
            trial.number,
            key=key,
            answer=answer,
            heard=heard,
            seconds=seconds,
            comment=str(question.get("comment") or "")[:_COMMENT],
            revise=revise and trial.rating is not None,
            following=self._following(now, trial, answer),
        )
        after = self._moment(now.study.token, now.session.token)
        return {"accepted": stored, "state": self._view(after), **_told(trial)}

    # ---- what it is made of

    def _moment(self, study: str, session: object) -> _Now:
        if not isinstance(session, str):
            raise Refused("This page has lost its place. Load it again.")
        found = self._studies.session(session)
        if found.study != study:
            raise NotFound("another study")
        return _Now(self._studies.load(study), found)

    def _is_open(self, study: StoredStudy) -> bool:
        return study.is_open(datetime.fromtimestamp(self._clock(), UTC))

    def _milliseconds(self) -> int:
        return round(1000 * self._clock())

    def _token(self, now: _Now, trial: int, slot: int) -> str:
        return sealing.clip_token(now.study.secret, now.session.token, trial, slot)

    def _playable(self, now: _Now) -> list[StoredTrial]:
        """The trial to be answered, and the one before it, whose answer can still be changed."""
        wanted = {self._revisable(now), now.trial.number if now.trial else None}
        return [trial for trial in now.session.trials if trial.number in wanted]

    def _revisable(self, now: _Now) -> int | None:
        """The number of the last answered trial, if its answer can still be changed: not a practice one, nor where the next question depends on it."""
        if now.study.manifest.type == "staircase" or not self._is_open(now.study):
            return None
        answered = [trial for trial in now.session.trials if trial.rating is not None]
        return answered[-1].number if answered and answered[-1].presentation.kind != "practice" else None

    def _heard(self, now: _Now, trial: StoredTrial, question: dict[str, Any]) -> tuple[dict[str, float], float]:
        """What sounded for how long, and seconds since the clips were handed out.

        Raises:
            Refused: a clip was not fetched, or has not sounded for long enough, or there was no time for it to have.
        """
        given, receipts = question.get("heard"), question.get("receipts")
        if not isinstance(given, dict) or not isinstance(receipts, dict):
            raise Refused("Listen to the clips first.")
        needed = design.must_hear(now.study.manifest, trial.presentation)
        heard: dict[str, float] = {}
        delivered = []
        for slot, label in enumerate(trial.presentation.labels):
            stamp = sealing.read_receipt(now.study.secret, self._token(now, trial.number, slot), receipts.get(label))
            seconds = given.get(label)
            if stamp is None or not isinstance(seconds, int | float) or not needed[label] * _TOLERANCE <= seconds < 86_400:
                raise Refused(f"Listen to {label} a little longer first.")
            heard[label] = round(float(seconds), 3)
            delivered.append(stamp)
        elapsed = (self._milliseconds() - max(delivered)) / 1000
        if elapsed < _TOLERANCE * sum(needed.values()):
            raise Refused("There was no time yet to hear all of it. Listen to the clips first.")
        return heard, round(elapsed, 3)

    def _following(self, now: _Now, trial: StoredTrial, answer: Answer) -> Presentation | None:
        if now.study.manifest.type != "staircase" or any(other.number > trial.number for other in now.session.trials):
            return None
        rated = dataclasses.replace(trial, rating=StoredRating(answer, {}, 0.0, "", 0, datetime.now(UTC)))
        trials = [rated if other.number == trial.number else other for other in now.session.trials]
        return design.following(now.study.manifest, now.session.number, trials)

    # ---- what the page is told

    def _view(self, now: _Now) -> dict[str, Any]:
        trial = now.trial
        is_open = self._is_open(now.study)
        if trial is None or not is_open:
            own = own_results(now.study, now.session, "" if is_open else self._verdict(now)) if now.study.manifest.thanks else []
            screen = "thanks" if trial is None or any(each.rating for each in now.session.trials) else "closed"
            return {"screen": screen, "session": now.session.token, "complete": trial is None, "results": own, "final": not is_open}
        last = self._revisable(now)
        before = next((each for each in now.session.trials if each.number == last), None)
        return {
            "screen": "trial",
            "session": now.session.token,
            "study": self._about(now.study),
            "trial": self._shown(now, trial),
            "before": self._shown(now, before) if before else None,
            "started": any(each.rating for each in now.session.trials),
        }

    def _verdict(self, now: _Now) -> str:
        """What a closed study found. Its answers do not change any more, so it is worked out once, not for every listener who comes back."""
        token = now.study.token
        with self._judging:
            if token not in self._verdicts:
                while len(self._verdicts) >= _KEPT_VERDICTS:
                    self._verdicts.pop(next(iter(self._verdicts)))
                found = results(now.study, self._studies.sessions(token), now=datetime.fromtimestamp(self._clock(), UTC))
                self._verdicts[token] = found.headline
            return self._verdicts[token]

    def _about(self, study: StoredStudy) -> dict[str, Any]:
        manifest = study.manifest
        trials = design.length(manifest)
        clips = sum(stimulus.seconds for stimulus in manifest.stimuli) / len(manifest.stimuli)
        heard = max(len(unit.stimuli) for unit in manifest.units) + (manifest.type in ("abx", "staircase"))
        return {
            "type": manifest.type,
            "trials": trials,
            "minutes": max(1, round(trials * (6 + 1.5 * clips * heard) / 60)),
            "own_results": manifest.thanks,
        }

    def _shown(self, now: _Now, trial: StoredTrial) -> dict[str, Any]:
        practice = sum(each.presentation.kind == "practice" for each in now.session.trials)
        is_practice = trial.presentation.kind == "practice"
        return {
            "number": trial.number,
            "practice": is_practice,
            "place": trial.number + 1 if is_practice else trial.number + 1 - practice,
            "of": practice if is_practice else max(design.length(now.study.manifest), len(now.session.trials)) - practice,
            "answer": trial.rating.answer if trial.rating else None,
            "tracks": [
                {"token": self._token(now, trial.number, slot), "label": label} for slot, label in enumerate(trial.presentation.labels)
            ],
            "needed": design.must_hear(now.study.manifest, trial.presentation),
        }


def _told(trial: StoredTrial) -> dict[str, Any]:
    """After a practice trial with an X: which one it was."""
    return {"x": trial.presentation.x} if trial.presentation.kind == "practice" and trial.presentation.x else {}


def _text(question: dict[str, Any], name: str, most: int, least: int = 1) -> str:
    value = question.get(name)
    if not isinstance(value, str) or not least <= len(value) <= most or not (value.isascii() and value.isprintable()):
        raise Refused("This page is not of this version of the lab. Load it again.")
    return value
