"""The words and tables of the Studies page, made of a results document and of a manifest: the same figures as on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from lab.listening.model import StoredStudy, clip_name
from lab.listening.summary import PEOPLE, STRENGTHS, SYSTEMS, TEXTS, cell, compared, state_of
from lab.plot_theme import one_line
from lab.study_rows import BrokenStudy
from lab.ui.words import plain

#: Tables of the page: name -> heading, and a sentence about it.
TABLES: dict[str, tuple[str, str]] = {
    "comparisons": (
        "Verdicts in figures",
        "p, and p by Holm over the comparisons; e: e-value; more: about so many more answers to decide."
        " The reference with another seed is the yardstick: a difference smaller than the seed's is small.",
    ),
    "systems": (
        "Ratings",
        "Medians and quartiles first; the adjusted mean is free of which listeners and texts a system happened to meet.",
    ),
    "bradley_terry": ("Preferences over all configurations", "Bradley-Terry with ties and a term for the order of presentation."),
    "tracks": ("Tracks", "One row for each listener: the lowest NFE that they cannot tell from the reference."),
    "bias": ("Orders, sides and catches", "What listeners do whatever they hear."),
    "per_listener": ("Listeners", "By the order in which they came. The check of headphones decides nothing."),
    "per_text": ("Texts", ""),
    "ledger": ("Not counted, or counted apart", "Every session and trial that is left out, and why."),
    "checks": ("The gate", "What the clips had to pass before anybody heard them."),
    "pairs": ("Pairs", "How far each clip is from the reference's, before any gain."),
}
_COMPARED = {
    "comparison": "comparison",
    "verdict": "verdict",
    "n": "n",
    "estimate": "mean",
    "interval": "95 % interval",
    "p_value": "p",
    "p_holm": "Holm",
    "e_value": "e",
    "more_trials": "more",
}


def facts_of(study: StoredStudy, progress: dict[str, int], now: datetime) -> str:
    """What a study is, in a few lines of Markdown."""
    manifest = study.manifest
    others = ", ".join(plain(config.name) for config in manifest.configs[1:])
    margin = "" if manifest.type == "staircase" else f", margin {manifest.margin:g}"
    peeked = f" Looked at while open, on {study.peeked_at:%Y-%m-%d}: only anytime-valid figures decide." if study.peeked_at else ""
    return (
        f"**{plain(manifest.title)}** · {manifest.type} · {plain(state_of(study, now))}\n\n"
        f"**{plain(manifest.reference)}** against {others}. {many(manifest.trials, 'question')} that count per listener{margin}; "
        f"{many(len(manifest.texts), 'text')}, voice {plain(manifest.voice)}, weights {plain(manifest.weights)} on {plain(manifest.device)}, "
        f"seed {manifest.seed}. {many(progress['listeners'], 'listener')}, {progress['with all trials answered']} with all trials answered, "
        f"{many(progress['ratings'], 'rating')}.{peeked}\n\nManifest `{study.manifest_sha256[:16]}…`"
    )


def many(number: int, what: str) -> str:
    """A number of things in words."""
    return f"{number} {what}{'s' * (number != 1)}"


def left_out(broken: Sequence[BrokenStudy]) -> str:
    """What is said of studies that cannot be used, in Markdown."""
    return "\n\n".join(
        f"**{plain(one_line(study.title, 60))} cannot be shown.** {plain(study.reason)} `python -m lab study delete -- {study.token}` deletes it."
        for study in broken
    )


def label_of(study: StoredStudy, now: datetime) -> str:
    """A study in the menu."""
    return f"{study.manifest.created_at:%Y-%m-%d} · {study.manifest.type} · {one_line(study.manifest.title, 60)} · {state_of(study, now)}"


def result_frames(document: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables of a results document; those that its type does not have are empty."""
    strengths = document["bradley_terry"]
    tracks = document["staircase"]["tracks"] if document["staircase"] else []
    return {
        "comparisons": _frame(compared(document), _COMPARED),
        "systems": _frame(document["systems"], SYSTEMS),
        "bradley_terry": _frame(strengths["systems"] if strengths else [], STRENGTHS),
        "tracks": _frame(tracks, [key for key, value in tracks[0].items() if not isinstance(value, dict | list)] if tracks else ()),
        "bias": pd.DataFrame(_bias(document), columns=["what", "found"]),
        "per_listener": _frame(document["per_listener"], PEOPLE),
        "per_text": _frame(document["per_text"], TEXTS),
        "ledger": _ledger(document["ledger"]),
    }


def gate_frames(gate: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """The tables of a manifest's gate."""
    pairs = [{**row, "clip": clip_name(row["config"], row["role"])} for row in gate.get("pairs", [])]
    columns = {
        "text": "text",
        "clip": "against the reference",
        "class": "class",
        "null_db": "null, dBFS",
        "null_relative_db": "relative, dB",
        "leading_ms": "silence before, ms",
        "trailing_ms": "silence after, ms",
        "gain_difference_db": "softer, dB",
        "state": "state",
    }
    return {
        "checks": _frame(gate.get("checks", []), ("check", "state", "words")),
        "pairs": _frame(pairs, columns),
    }


def _frame(rows: Sequence[dict[str, Any]], columns: Sequence[str] | dict[str, str]) -> pd.DataFrame:
    named = columns if isinstance(columns, dict) else {name: name.replace("_", " ") for name in columns}
    return pd.DataFrame([[one_line(cell(row[key], key), 400) for key in named] for row in rows], columns=list(named.values()))


def _bias(document: dict[str, Any]) -> list[list[str]]:
    """Orders, sides, catches and headphones, a row each where there is something to say."""
    rows = []
    order = (document["order"] or {}).get("all")
    if order and order["couples"]:
        rows.append(["both orders of a pair", f"{order['contradicting']} of {order['couples']} contradict each other"])
    position = document["position_bias"]
    if position and position["n"]:
        rows.append(["answers for the first side", f"{position['first']} of {position['n']} ({cell(position['interval'])})"])
    anchor, same = document["catches"]["anchor"], document["catches"]["same"]
    if anchor["n"]:
        rows.append(["catches: 3.5 kHz anchor", f"{anchor['passed']} of {anchor['n']} passed"])
    if same["n"] and same["said_same"] is not None:
        rows.append(["catches: identical pairs", f"{same['said_same']} of {same['n']} called the same"])
    heard = document["headphones"]
    rows.append(["headphone check", f"{heard['passed']} passed, {heard['failed']} failed, {heard['not_taken']} did not take it"])
    return rows


def _ledger(ledger: Sequence[dict[str, Any]]) -> pd.DataFrame:
    counts: dict[tuple[str, str], list[Any]] = {}
    for row in ledger:
        counts.setdefault((row["status"], row["reason"]), []).append(row["listener"])
    rows = [[status, reason, len({*people}), len(people)] for (status, reason), people in counts.items()]
    return pd.DataFrame(rows, columns=["status", "reason", "listeners", "entries"])
