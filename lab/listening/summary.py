"""What is said of a study in a line: for the command line and the Studies page alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lab.listening.model import StoredSession, StoredStudy

#: Columns of tables, as keys of a results document.
PEOPLE = ("listener", "counts", "dropped", "finished", "n", "estimate", "catches", "catches_passed", "chose_first", "headphones", "minutes")
SYSTEMS = ("system", "n", "median", "q1", "q3", "mean", "adjusted_mean", "p_holm")
STRENGTHS = ("system", "strength", "preferred", "tie", "share", "interval")
TEXTS = ("comparison", "text", "n", "estimate")


def link_of(study: StoredStudy, address: str) -> str:
    """What is sent to listeners; `address` is where they reach the lab."""
    return f"{address.rstrip('/')}/listen?s={study.token}"


def state_of(study: StoredStudy, now: datetime) -> str:
    """Open, and until when, or closed."""
    if study.is_open(now):
        return "open" if study.open_until is None else f"open until {study.open_until:%Y-%m-%d %H:%M} UTC"
    return "closed"


def facts_of(study: StoredStudy, now: datetime) -> dict[str, Any]:
    """What a list says of a study."""
    manifest = study.manifest
    return {
        "study": study.token,
        "created": manifest.created_at.isoformat(),
        "type": manifest.type,
        "title": manifest.title,
        "state": state_of(study, now),
        "configs": [config.name for config in manifest.configs],
        "texts": len(manifest.texts),
        "trials": manifest.trials,
        "peeked": study.peeked_at is not None,
    }


def progress_of(sessions: Sequence[StoredSession]) -> dict[str, int]:
    """How far listeners are; nothing of what they answered."""
    rated = [sum(trial.rating is not None for trial in session.trials) for session in sessions]
    done = sum(bool(session.trials) and count == len(session.trials) for session, count in zip(sessions, rated, strict=True))
    return {"listeners": len(sessions), "with all trials answered": done, "ratings": sum(rated)}


def compared(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of a results document, the yardstick last where there is one."""
    return [*document["comparisons"], *([document["yardstick"]] if document["yardstick"] else [])]


def cell(value: Any, key: str = "") -> str:
    """A figure of a results document for a table, `key` being its key there: nothing for what does not exist, `low to high` for an interval."""
    if isinstance(value, list):
        return "" if None in value else " to ".join(map(cell, value))
    if key.startswith("p_") and isinstance(value, float):
        return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and abs(value) >= 1e6:
        return f"{value:.1e}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:,.2f}"
    return "" if value is None else str(value)
