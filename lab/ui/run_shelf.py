"""From a selection to runs that can be drawn: the folder, the uploads, what was computed before, and what is wrong with the rest."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.bench.record import Run
from lab.bench.run_files import Listing, head_of, list_runs, parse_run, read_run
from lab.errors import LabError
from lab.run_view import CannotShow, ShownRun, View, Views, short_names
from lab.ui.run_selection import Offer, Resolved, Selection, resolve, utc, weights_name

MOST_SHOWN = 12  # runs: as many as a page of figures can hold and a person can hold apart
UPLOADED = "upload:"  # prefix of the menu values of runs that are not stored; an id has no colon

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """A run that was uploaded and is not stored."""

    run: Run
    digest: str  # of the file

    @property
    def value(self) -> str:
        """Its value in the menu."""
        return f"{UPLOADED}{self.digest[:32]}"

    @property
    def offer(self) -> Offer:
        """How it can be chosen."""
        return Offer(self.value, head_of(self.run, Path(f"{self.run.id}.json")), self.run)


def read_upload(path: Path, name: str) -> Upload:
    """Check the file at `path`, which messages call `name`.

    Raises:
        LabError: it is no run, is damaged or made by a newer lab, or is larger than can be shown.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabError(f"{name} cannot be read: {error.strerror or error}.") from None
    run = parse_run(data, name)
    try:
        View(run)
    except CannotShow as error:
        raise LabError(f"{name} cannot be shown. {error}") from None
    return Upload(run, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Shelf:
    """What a selection comes to."""

    listing: Listing
    there: Resolved
    shown: tuple[ShownRun, ...]
    troubles: tuple[str, ...]  # why some chosen runs are not shown; plain text

    @property
    def selection(self) -> Selection:
        """The selection, of what there is alone."""
        return self.there.selection


def take_from_shelf(views: Views, wanted: Selection, uploads: Sequence[Upload]) -> Shelf:
    """Match `wanted` with the stored runs and the uploads, and get the chosen ones ready.

    Raises:
        LabError: the folder cannot be listed.
    """
    listing = list_runs()
    there = resolve(wanted, [*(upload.offer for upload in uploads), *(Offer(head.id, head) for head in listing.runs)])
    troubles: list[str] = []
    found: list[tuple[Offer, View]] = []
    if len(there.chosen) > MOST_SHOWN:
        troubles.append(f"{len(there.chosen)} runs are chosen; the first {MOST_SHOWN} are shown. Exports hold all of them.")
    for offer in there.chosen[:MOST_SHOWN]:
        try:
            found.append((offer, _view(views, offer, there.selection)))
        except LabError as error:
            troubles.append(f"{offer.head.id} is not shown. {error}")
        except Exception as error:  # one run must not take the page from the others
            _log.exception("a run cannot be looked at")
            troubles.append(f"{offer.head.id} is not shown: {type(error).__name__}.")
    titles = short_names([f"{'not stored: ' if offer.uploaded else ''}{offer.head.card}" for offer, _ in found])
    shown = tuple(_shown(offer, view, title, there.selection) for (offer, view), title in zip(found, titles, strict=True))
    return Shelf(listing, there, shown, tuple(troubles))


def _view(views: Views, offer: Offer, selection: Selection) -> View:
    if offer.uploaded:
        run = offer.uploaded
        return views.get((offer.value, selection.cards, selection.texts), lambda: View(run, selection.cards, selection.texts))
    path = offer.head.path
    try:
        state = path.stat()
    except OSError as error:
        raise LabError(f"{path.name} cannot be read any more: {error.strerror or error}.") from None
    key = (path, state.st_mtime_ns, state.st_size, selection.cards, selection.texts)
    return views.get(key, lambda: View(read_run(path), selection.cards, selection.texts))


def _shown(offer: Offer, view: View, title: str, selection: Selection) -> ShownRun:
    labels = tuple(arm.label for arm in view.run.arms if not selection.configs or arm.config in selection.configs)
    reference = selection.reference if selection.reference in view.labels else view.reference
    note = f"{weights_name(offer.head.weights)} · {utc(offer.head.created):%Y-%m-%d %H:%M} UTC"
    return ShownRun(view, labels, reference, title, note)
