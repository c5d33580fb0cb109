"""Tables and sentences of `study` for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from lab.cli.output import console
from lab.listening.model import StoredStudy, clip_name
from lab.listening.summary import PEOPLE, STRENGTHS, SYSTEMS, TEXTS, cell, compared

if TYPE_CHECKING:
    from lab.listening.creating import Created

_COLOURS = {"ok": "green", "noted": "yellow", "unavailable": "yellow", "left out": "red"}


def print_created(created: Created, link: str) -> None:
    """What the gate found, what the study asks, and where listeners find it."""
    manifest = created.study.manifest
    print_gate(manifest.gate)
    console.print(_units_words(created.study), markup=False, soft_wrap=True)
    size = f"{created.clips} clips of {len(manifest.texts)} texts"
    console.print(f"{size}; a listener answers {manifest.trials} questions that count.", markup=False, soft_wrap=True)
    console.print(link, markup=False, style="bold", soft_wrap=True)


def print_gate(gate: dict[str, Any]) -> None:
    """The gate's checks, and every pair with how far it is apart."""
    checks = Table("check", "state", "what was found", header_style="bold")
    for row in gate["checks"]:
        checks.add_row(escape(row["check"]), _state(row["state"]), escape(_shortened(row["words"])))
    console.print(checks)
    pairs = Table(
        "text", "against the reference", "class", "null, dBFS", "as heard", "silence, ms", "softer, dB", "state", header_style="bold"
    )
    pairs.columns[1].overflow = "fold"
    for row in gate["pairs"]:
        null = ["" if row.get(key) is None else f"{row[key]:.1f}" for key in ("null_db", "heard_null_db")]
        silences = f"{row['leading_ms']:+.0f} {row['trailing_ms']:+.0f}"
        name = clip_name(row["config"], row["role"])
        pairs.add_row(
            escape(row["text"]), escape(name), row["class"], *null, silences, f"{row['gain_difference_db']:+.2f}", _state(row["state"])
        )
    console.print(pairs)
    for words in gate["left_out"]:
        console.print(f"The study goes without {words}.", markup=False, style="yellow", soft_wrap=True)


def _state(state: str) -> str:
    return f"[{_COLOURS.get(state, 'red')}]{state}[/]"


def _shortened(words: str, most: int = 300) -> str:
    return words if len(words) <= most else f"{words[:most].rsplit(';', 1)[0]}; … ({words.count(';') + 1} in all, see --json)"


def _units_words(study: StoredStudy) -> str:
    counts = Counter(unit.kind for unit in study.manifest.units)
    return "Questions that can be asked: " + ", ".join(f"{number} {kind}" for kind, number in counts.items()) + "."


def print_study(study: StoredStudy, facts: dict[str, Any]) -> None:
    """What a study is, and how far it has come."""
    manifest = study.manifest
    console.print(f"{manifest.title} ({manifest.type}, {facts['state']})", markup=False, style="bold", soft_wrap=True)
    table = Table(show_header=False)
    rows = {
        "study": study.token,
        "created": facts["created"][:16],
        "reference": manifest.reference,
        "against it": ", ".join(config.name for config in manifest.configs[1:]),
        "texts": ", ".join(text.id for text in manifest.texts),
        "questions": f"{manifest.trials} that count per listener, margin {manifest.margin:g}",
        "voice, weights": f"{manifest.voice}, {manifest.weights} on {manifest.device}",
        "seeds": f"{manifest.seed}, other {manifest.other_seed}",
        "listeners": f"{facts['listeners']}, {facts['with all trials answered']} with all trials answered, {facts['ratings']} ratings",
        "manifest": study.manifest_sha256,
        "link": facts["link"],
    }
    if study.peeked_at is not None:
        rows["peeked"] = f"{study.peeked_at:%Y-%m-%d %H:%M} UTC"
    for name, value in rows.items():
        table.add_row(name, escape(value))
    console.print(table)
    console.print(_units_words(study), markup=False, soft_wrap=True)
    print_gate(manifest.gate)


# ---- results


def print_results(document: dict[str, Any]) -> None:
    """The verdicts, then everything by which a reader can doubt them."""
    console.print(document["headline"], markup=False, style="bold", soft_wrap=True)
    people = document["listeners"]
    said = f"{document['ratings']} ratings that count, of {people['counted']} of {people['all']} listeners ({people['finished']} finished)"
    margin = "" if document["type"] == "staircase" else f", margin {document['margin']:g}"
    console.print(f"{document['title']} ({document['type']}{margin}): {said}.", markup=False, soft_wrap=True)
    rows = compared(document)
    _print_comparisons(rows)
    for row in rows:
        console.print(row["sentence"], markup=False, soft_wrap=True)
    if document["systems"]:
        _print_rows(*SYSTEMS, rows=document["systems"])
    if document["bradley_terry"]:
        _print_rows(*STRENGTHS, rows=document["bradley_terry"]["systems"])
    if document["staircase"]:
        _print_staircase(document["staircase"])
    _print_bias(document)
    if document["per_text"]:
        _print_rows(*TEXTS, rows=document["per_text"])
    if document["per_listener"]:
        _print_rows(*PEOPLE, rows=document["per_listener"])
    _print_ledger(document["ledger"])


def _print_comparisons(rows: list[dict[str, Any]]) -> None:
    table = Table("comparison", "verdict", "n", "estimate", "interval", "p (Holm)", "e-value", "more trials", header_style="bold")
    table.columns[0].overflow = "fold"
    for row in rows:
        p = "p_value" if row["p_holm"] is None else "p_holm"
        table.add_row(
            *(escape(cell(row[key], key)) for key in ("comparison", "verdict", "n", "estimate", "interval", p, "e_value", "more_trials"))
        )
    console.print(table)


def _print_rows(*columns: str, rows: list[dict[str, Any]]) -> None:
    table = Table(*(column.replace("_", " ") for column in columns), header_style="bold")
    for row in rows:
        table.add_row(*(escape(cell(row[column], column)) for column in columns))
    console.print(table)


def _print_staircase(staircase: dict[str, Any]) -> None:
    """Each listener's track."""
    for name, value in staircase.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            columns = [key for key, cell in value[0].items() if not isinstance(cell, list | dict)]
            console.print(name.replace("_", " "), markup=False, style="dim")
            _print_rows(*columns, rows=value)


def _print_bias(document: dict[str, Any]) -> None:
    """Orders, sides, catches and headphones, a line each where there is something to say."""
    order = (document["order"] or {}).get("all")
    if order and order["couples"]:
        console.print(f"Both orders of a pair: {order['couples']} couples, {order['contradicting']} contradict each other.", markup=False)
    position = document["position_bias"]
    if position and position["n"]:
        said = f"{position['first']} of {position['n']} answers that favour a side favour A ({cell(position['interval'])})."
        console.print(said, markup=False, soft_wrap=True)
    anchor, same = document["catches"]["anchor"], document["catches"]["same"]
    if anchor["n"]:
        console.print(f"Catches with the 3.5 kHz anchor: {anchor['passed']} of {anchor['n']} passed.", markup=False)
    if same["n"] and same["said_same"] is not None:
        console.print(f"Identical pairs: {same['said_same']} of {same['n']} called the same.", markup=False)
    heard = document["headphones"]
    console.print(
        f"Headphone check: {heard['passed']} passed, {heard['failed']} failed, {heard['not_taken']} did not take it.", markup=False
    )


def _print_ledger(ledger: list[dict[str, Any]]) -> None:
    """What does not count or counts apart, by reason."""
    if not ledger:
        return
    table = Table("not counted, or counted apart", "reason", "listeners", "entries", header_style="bold")
    counts = Counter((row["status"], row["reason"]) for row in ledger)
    for (status, reason), number in counts.items():
        people = sorted({row["listener"] for row in ledger if (row["status"], row["reason"]) == (status, reason)})
        shown = ", ".join(map(str, people[:8])) + (f" and {len(people) - 8} more" if len(people) > 8 else "")
        table.add_row(status, escape(reason), shown, str(number))
    console.print(table)
