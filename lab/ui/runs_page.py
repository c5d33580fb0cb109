"""What the Runs page does: opens, chooses, draws, exports, takes uploads. `runs_layout` says where things are on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from lab import run_plots
from lab.bench.run_files import runs_dir, write_run
from lab.errors import LabError
from lab.plot_theme import one_line
from lab.run_view import ShownRun, Views
from lab.ui import run_export, run_tables
from lab.ui.context import Context, origin_of
from lab.ui.run_selection import Resolved, Selection, Tab, from_query
from lab.ui.run_shelf import UPLOADED, Shelf, Upload, read_upload, take_from_shelf
from lab.ui.run_tables import said

MOST_UPLOADS = 4  # of one tab
EMPTY = (
    "**There are no runs yet.** `python -m lab bench` measures the two usual configurations and stores a run; or upload a run file from"
    " another machine below."
)
#: Figures by name, with their headings.
HEADINGS = {
    "forest": "Faster or slower",
    "distributions": "How they are spread",
    "stages": "Where the time goes",
    "lengths": "Time against length",
    "timeline": "In the order of measurement",
    "memory": "Peak memory",
    "first_calls": "The first call",
}
#: What is in each tab. Only the tab that is looked at is computed and drawn: all of them take a browser several seconds, and a figure that is drawn in a
#: hidden tab has no width.
TABS: dict[Tab, tuple[str, ...]] = {
    "verdict": ("forest", "pairs"),
    "speed": ("percentiles", "distributions"),
    "costs": ("stages", "lengths", "memory", "first_calls"),
    "timeline": ("timeline",),
    "environment": ("environment",),
}
PARTS = tuple(name for names in TABS.values() for name in names)
_FILTERS = ("configs", "cards", "texts", "weights")
CONTROLS = ("runs", *_FILTERS, "reference", "kind", "differences", "tab")
OUTPUTS = (*CONTROLS, "words", "body", "tabs", "filled", *PARTS, "link", "said", "uploads", "file", "keep")

_log = logging.getLogger(__name__)


class RunsPage:
    """The Runs page's behaviour over one `Context`. Events that change the selection yield the page's outputs twice: what decides first, then the rest."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.views = Views()

    # --- choosing

    def open(self, uploads: list[Upload], request: gr.Request) -> Iterator[list[Any]]:
        """Show what the link says, or the latest run of each machine."""
        params = request.query_params
        # Starlette's keeps every value of a repeated name; a plain dictionary has one of each
        pairs = params.multi_items() if hasattr(params, "multi_items") else dict(params).items()
        yield from self.choose(from_query(pairs), uploads, request, opening=True)

    def choose(
        self, wanted: Selection, uploads: list[Upload], request: Any, beside: dict[str, Any] | None = None, *, opening: bool = False
    ) -> Iterator[list[Any]]:
        """Show `wanted`; `beside` are further outputs.

        Only a page that is `opening` is told how its plots are drawn and which tab is open: later a person may have gone on to another before the answer
        comes. "filled" says which tab it fills, and how.
        """
        changes = {**(beside or {}), "filled": filled(wanted)}
        try:
            shelf = take_from_shelf(self.views, wanted, uploads)
            changes |= {**_controls(shelf.there, opening), "words": _words(shelf), "link": link_of(shelf.selection, request)}
        except Exception as error:  # whatever it was, the page has to say so
            _log.exception("the runs cannot be listed")
            told = str(error) if isinstance(error, LabError) else type(error).__name__
            yield in_order({**changes, "words": f"**The runs cannot be listed.** {said(told, 300)}", "body": gr.update(visible=False)})
            return
        if not shelf.shown:
            yield in_order({**changes, "body": gr.update(visible=False)})
            return
        tab = shelf.selection.tab
        # what other tabs show is no longer what is chosen; it is made again when they are looked at
        changes |= {name: None for name in PARTS if name not in TABS[tab]}
        yield in_order({**changes, "body": gr.update(visible=True)})
        troubles: list[str] = []
        changes = {name: make(name, shelf, troubles) for name in TABS[tab]}
        yield in_order({**changes, **({"words": _words(shelf, troubles)} if troubles else {})})

    def look(self, wanted: Selection, uploads: list[Upload], request: Any) -> list[Any]:
        """Fill the tab that was opened; returns the link, what was filled, and `PARTS`, those of other tabs left as they are."""
        shelf = take_from_shelf(self.views, wanted, uploads)
        these = TABS[shelf.selection.tab]
        parts = [make(name, shelf, []) if name in these else gr.skip() for name in PARTS]
        return [link_of(shelf.selection, request), filled(wanted), *parts]

    def again(self, name: str, wanted: Selection, uploads: list[Upload], request: Any) -> tuple[str, str, Any]:
        """Make one part of the page in another way; returns the link, what was filled, and the part."""
        shelf = take_from_shelf(self.views, wanted, uploads)
        return link_of(shelf.selection, request), filled(wanted), make(name, shelf, [])

    # --- runs from elsewhere

    def take(self, path: str | None, wanted: Selection, uploads: list[Upload], request: Any) -> Iterator[list[Any]]:
        """Check the uploaded file at `path` and show it together with `wanted`; it is not stored."""
        if not path:
            return
        try:
            made = read_upload(Path(path), one_line(Path(path).name, 60))
        except LabError as error:
            yield in_order({"said": f"**Not shown.** {said(str(error), 300)}", "file": None})
            return
        finally:
            Path(path).unlink(missing_ok=True)
        uploads = [*(item for item in uploads if item.digest != made.digest), made][-MOST_UPLOADS:]
        there = " A run of this name is stored here." if (runs_dir() / f"{made.run.id}.json").exists() else ""
        told = f"**{said(made.run.id, 120)} is shown, and not stored:** it is gone when this tab is closed.{there}"
        beside = {"said": told, "uploads": uploads, "file": None, "keep": gr.update(interactive=True)}
        yield from self.choose(replace(wanted, runs=(*wanted.runs, made.value)), uploads, request, beside)

    def keep(self, wanted: Selection, uploads: list[Upload], request: Any) -> Iterator[list[Any]]:
        """Store the chosen uploads as they are; one whose name is taken is not stored."""
        told, left, names = [], [], {}
        for upload in uploads:
            if upload.value not in wanted.runs:
                left.append(upload)
                continue
            try:
                path = write_run(upload.run, runs_dir())
                told.append(f"Stored as {said(path.name, 140)}.")
                names[upload.value] = upload.run.id
            except (LabError, OSError) as error:
                told.append(f"**Not stored:** {said(str(error), 300)}")
                left.append(upload)
        beside = {"said": " ".join(told) or "There is nothing to store.", "uploads": left, "keep": gr.update(interactive=bool(left))}
        yield from self.choose(replace(wanted, runs=tuple(names.get(run, run) for run in wanted.runs)), left, request, beside)

    # --- taking it away

    def export(self, kinds: list[str], wanted: Selection, uploads: list[Upload], request: Any) -> tuple[Any, str]:
        """Write the files that `kinds` ask for; returns them, and what is said."""
        troubles: list[str] = []
        try:
            shelf = take_from_shelf(self.views, wanted, uploads)
            tables = (*_TABLES, "environment") if run_export.TABLES in kinds else ()
            figures = HEADINGS if run_export.FIGURES in kinds else ()
            what = run_export.Contents(
                shelf.there.chosen,
                _whole({name: make(name, shelf, troubles, ids=True) for name in tables}),
                _whole({HEADINGS[name]: make(name, shelf, troubles) for name in figures}),
                link_of(shelf.selection, request),
            )
            paths = run_export.write(kinds, what, self.context.new_folder())
        except (LabError, OSError) as error:
            return gr.update(value=None, visible=False), f"**No files.** {said(str(error), 300)}"
        return gr.update(value=paths, visible=True), f"Made from {len(shelf.there.chosen)} runs.{_remarks(troubles)}"


def filled(selection: Selection) -> str:
    """What a page compares with its own state, to see whether the answer to a choice still fits: see `lab.ui.runs_layout`."""
    return f"{selection.tab} {selection.kind} {str(selection.differences).lower()}"


def in_order(changes: dict[str, Any]) -> list[Any]:
    """The page's outputs as a list, those not named left as they are."""
    return [changes.get(name, gr.skip()) for name in OUTPUTS]


_FIGURES: dict[str, Callable[[Shelf], Any]] = {
    "forest": lambda shelf: run_plots.forest(shelf.shown),
    "distributions": lambda shelf: run_plots.distributions(shelf.shown, shelf.selection.kind),
    "stages": lambda shelf: run_plots.stages(shelf.shown),
    "lengths": lambda shelf: run_plots.lengths(shelf.shown),
    "timeline": lambda shelf: run_plots.timeline(shelf.shown),
    "memory": lambda shelf: run_plots.memory(shelf.shown),
    "first_calls": lambda shelf: run_plots.first_calls(shelf.shown),
}
_TABLES: dict[str, Callable[..., Any]] = {
    "pairs": run_tables.pair_table,
    "percentiles": run_tables.percentile_table,
    "fits": run_tables.fit_table,
    "first-calls": run_tables.first_call_table,
}


def make(name: str, shelf: Shelf, troubles: list[str], *, ids: bool = False) -> Any:
    """One part of the page; None, and a word in `troubles`, where it fails: a run that nobody thought of must not take the rest of the page away.

    With `ids` a table names runs as other programs want them.
    """
    try:
        if name == "environment":
            return run_tables.environment_table(shelf.shown, only_differences=shelf.selection.differences, ids=ids)
        return _TABLES[name](shelf.shown, ids=ids) if name in _TABLES else _FIGURES[name](shelf)
    except Exception as error:
        _log.exception("a part of the Runs page failed")
        troubles.append(f"{HEADINGS.get(name, name)}: could not be made ({type(error).__name__}).")
        return None


def _whole(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if part is not None}


def _controls(there: Resolved, opening: bool) -> dict[str, Any]:
    """What the controls offer and say; those that no other depends on are set when the page opens, and are the person's afterwards."""
    chosen = there.selection
    several = len(chosen.runs) > 1
    changes: dict[str, Any] = {
        name: gr.update(choices=[(one_line(value, 60), value) for value in there.options[name]], value=list(getattr(chosen, name)))
        for name in _FILTERS
    }
    references = [("each run's own", ""), *((one_line(name), name) for name in there.options["reference"])]
    return changes | {
        "runs": gr.update(choices=[(offer.label, offer.value) for offer in there.offered], value=list(chosen.runs)),
        "reference": gr.update(choices=references, value=chosen.reference),
        "differences": gr.update(visible=several, value=chosen.differences) if opening else gr.update(visible=several),
        **({"kind": chosen.kind, "tab": chosen.tab, "tabs": gr.update(selected=chosen.tab)} if opening else {}),
    }


def _words(shelf: Shelf, troubles: Sequence[str] = ()) -> str:
    listing, shown = shelf.listing, shelf.shown
    remarks = _remarks([*shelf.there.remarks, *shelf.troubles, *troubles])
    skipped = [f"- {said(item.path.name)} {said(item.reason, 200)}" for item in listing.skipped[:5]]
    if skipped:
        more = len(listing.skipped) - len(skipped)
        skipped = ["\n\n**Files that were skipped:**\n", *skipped, *([f"- and {more} more"] if more else [])]
    if not shown:
        empty = not listing.runs and not shelf.there.chosen
        return (EMPTY if empty else "**No run is shown.**") + remarks + "\n".join(skipped)
    return "\n".join(map(_words_of, shown)) + remarks + "\n".join(skipped)


def _words_of(run: ShownRun) -> str:
    try:
        return run_tables.words(run)
    except Exception as error:
        _log.exception("a run cannot be put into words")
        return f"- **{said(run.title)}** could not be put into words ({type(error).__name__})."


def _remarks(remarks: Sequence[str]) -> str:
    return "".join(f"\n\n*{said(remark, 300)}*" for remark in dict.fromkeys(remarks))


def link_of(selection: Selection, request: Any) -> str:
    """The address under which the page shows `selection` again; uploads are not in it, because nobody else has them."""
    stored = replace(selection, runs=tuple(run for run in selection.runs if not run.startswith(UPLOADED)))
    return f"{origin_of(request)}/runs?{stored.query}"
