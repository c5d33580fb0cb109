"""Which runs are shown, and how: the choices on the Runs page as one value, with its permalink, and what becomes of it where some of it is not there.

Strings in here come from people, links and run files: they are compared and quoted, never trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from lab.bench.record import Run
from lab.bench.run_files import RunHead
from lab.plot_theme import one_line
from lab.run_plots import Kind

Tab = Literal["verdict", "speed", "costs", "timeline", "environment"]

_MOST_VALUES, _LONGEST = 500, 200  # of a link: more than all that a page can offer
#: Name in a link -> name of the field. A link lives for years: names may be added, but not changed.
_LISTS = {"run": "runs", "config": "configs", "card": "cards", "texts": "texts", "weights": "weights"}


@dataclass(frozen=True)
class Selection:
    """Everything that a person chooses on the page; an empty filter lets everything through."""

    runs: tuple[str, ...] = ()  # values of offers; empty means the latest of each machine
    configs: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()  # text sets
    weights: tuple[str, ...] = ()
    reference: str = ""  # what the others are compared with; empty means each run's own
    kind: Kind = "violin"  # of the distributions
    differences: bool = False  # whether the environments are reduced to what differs
    tab: Tab = "verdict"  # which part of the results is looked at

    @property
    def query(self) -> str:
        """The selection as the query string of a link."""
        pairs = [(name, value) for name, field in _LISTS.items() for value in getattr(self, field)]
        pairs += [("reference", self.reference)] if self.reference else []
        pairs += [("kind", self.kind)] if self.kind != "violin" else []
        pairs += [("differences", "1")] if self.differences else []
        pairs += [("tab", self.tab)] if self.tab != "verdict" else []
        return urlencode(pairs)


def from_query(pairs: Iterable[tuple[str, str]]) -> Selection:
    """The selection of a link's (name, value) pairs; what is not understood is left out, and what does not exist is `resolve`'s concern."""
    found: dict[str, list[str]] = {field: [] for field in _LISTS.values()}
    single = {"reference": "", "kind": "violin", "differences": "", "tab": ""}
    for name, value in list(pairs)[:_MOST_VALUES]:
        if name in _LISTS and value:
            found[_LISTS[name]].append(value[:_LONGEST])
        elif name in single and value:
            single[name] = value[:_LONGEST]
    lists = {name: tuple(dict.fromkeys(values)) for name, values in found.items()}
    return Selection(
        runs=lists["runs"],
        configs=lists["configs"],
        cards=lists["cards"],
        texts=lists["texts"],
        weights=lists["weights"],
        reference=single["reference"],
        kind=known_kind(single["kind"]),
        differences=single["differences"] == "1",
        tab=known_tab(single["tab"]),
    )


def from_controls(values: Mapping[str, Any]) -> Selection:
    """The selection of the page's controls, by field; a browser may send anything, and what makes no sense is left out."""
    reference = values.get("reference")
    return Selection(
        runs=_strings(values.get("runs")),
        configs=_strings(values.get("configs")),
        cards=_strings(values.get("cards")),
        texts=_strings(values.get("texts")),
        weights=_strings(values.get("weights")),
        reference=reference if isinstance(reference, str) else "",
        kind=known_kind(values.get("kind")),
        differences=values.get("differences") is True,
        tab=known_tab(values.get("tab")),
    )


def _strings(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if isinstance(value, str))) if isinstance(values, list) else ()


def known_kind(name: object) -> Kind:
    """`name` if it is a kind of distribution, otherwise the usual one."""
    return next((kind for kind in get_args(Kind) if kind == name), "violin")


def known_tab(name: object) -> Tab:
    """`name` if it is a tab, otherwise the first one."""
    return next((tab for tab in get_args(Tab) if tab == name), "verdict")


@dataclass(frozen=True)
class Offer:
    """A run that can be chosen: one of the folder, or one that was uploaded and is not stored."""

    value: str
    head: RunHead
    uploaded: Run | None = None

    @property
    def cards(self) -> list[str]:
        """Names of its devices."""
        return self.head.card.split(" + ")

    @property
    def label(self) -> str:
        """What the menu calls it."""
        head = self.head
        mark = "not stored: " if self.uploaded else ""
        ended = "" if head.state == "complete" else " · interrupted"
        return f"{mark}{utc(head.created):%Y-%m-%d %H:%M:%S} · {one_line(head.card)} · {weights_name(head.weights)} · n {head.samples:,}{ended}"

    def passes(self, selection: Selection) -> bool:
        """Whether the filters of `selection` let anything of it through."""
        head = self.head
        return (
            _meets(selection.configs, head.configs)
            and _meets(selection.cards, self.cards)
            and _meets(selection.texts, head.sets)
            and _meets(selection.weights, [head.weights])
        )


def utc(moment: datetime) -> datetime:
    """`moment` in UTC; as it is where no calendar has room for that (the first and the last day there are)."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment


def _meets(wanted: Sequence[str], there: Sequence[str]) -> bool:
    return not wanted or bool(set(wanted) & set(there))


def weights_name(name: str) -> str:
    """Weights as a person calls them: of a path the last part."""
    return one_line(name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1], 30)


@dataclass(frozen=True)
class Resolved:
    """A selection that holds only what there is, what the menus offer beside it, and what has to be said about the rest (plain text)."""

    selection: Selection
    chosen: tuple[Offer, ...]
    offered: tuple[Offer, ...]
    options: dict[str, list[str]]  # of the filters, by field of `Selection`; and "reference"
    remarks: tuple[str, ...]


def latest(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """The newest of each machine, of `offers` from new to old."""
    found: dict[str, Offer] = {}
    for offer in offers:
        found.setdefault(offer.head.machine, offer)
    return tuple(found.values())


def resolve(wanted: Selection, offers: Sequence[Offer]) -> Resolved:
    """Match `wanted` with what there is; `offers` go from new to old, uploaded ones first."""
    remarks: list[str] = []
    options = {
        "configs": _all(name for offer in offers for name in offer.head.configs),
        "cards": _all(name for offer in offers for name in offer.cards),
        "texts": _all(name for offer in offers for name in offer.head.sets),
        "weights": _all(offer.head.weights for offer in offers),
    }
    kept: dict[str, tuple[str, ...]] = {}
    for field, there in options.items():
        values = getattr(wanted, field)
        kept[field] = tuple(value for value in values if value in there)
        remarks += [f"No run here has {_NOUNS[field]} {quoted(value)}; that filter is left out." for value in values if value not in there]
    filtered = replace(wanted, configs=kept["configs"], cards=kept["cards"], texts=kept["texts"], weights=kept["weights"])
    offered = tuple(offer for offer in offers if offer.passes(filtered))
    by_value = {offer.value: offer for offer in offers}
    asked = tuple(dict.fromkeys(wanted.runs))
    chosen = [by_value[value] for value in asked if value in by_value]
    remarks += [f"There is no run {quoted(value)} here." for value in asked if value not in by_value]
    hidden = [offer for offer in chosen if offer not in offered]
    shown = [offer for offer in chosen if offer in offered]
    if hidden:
        count = f"{len(hidden)} chosen runs are" if len(hidden) > 1 else "A chosen run is"
        remarks.append(f"{count} hidden by the filters.")
    if not offered and offers:
        remarks.append("No run passes all the filters. Take one away.")
    if not shown:
        shown = list(latest(offered))
        if wanted.runs and shown:
            remarks.append("Shown instead: the latest run of each machine.")
    options["reference"] = _all(name for offer in shown for name in offer.head.configs)
    reference = wanted.reference if wanted.reference in options["reference"] else ""
    if wanted.reference and not reference:
        remarks.append(f"None of these runs has {quoted(wanted.reference)} to compare with; each is compared with its own reference.")
    selection = replace(filtered, runs=tuple(offer.value for offer in shown), reference=reference)
    return Resolved(selection, tuple(shown), offered, options, tuple(remarks))


_NOUNS = {"configs": "a configuration", "cards": "a card", "texts": "a text set", "weights": "weights"}


def _all(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def quoted(value: str) -> str:
    """`value` in a message."""
    return f"“{one_line(value, 60)}”"
