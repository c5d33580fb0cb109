"""`stored`: what people saved or gave (comparisons, voices), and how to delete it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lab.cli.output import console, plain_errors, print_json
from lab.cli.render import Json
from lab.store import NotFound, Store

stored_app = typer.Typer(help="List and delete saved comparisons and people's own voices.", no_args_is_help=True)
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Default: LAB_DATA_DIR, or the user's data folder.", file_okay=False)]


@contextmanager
def _store(data_dir: Path | None, as_json: bool) -> Iterator[Store]:
    with plain_errors(as_json):
        store = Store.open(data_dir)
        try:
            yield store
        finally:
            store.close()


@stored_app.command("list")
def stored_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List saved comparisons (the newest first) and people's own voices."""
    with _store(data_dir, as_json) as store:
        rows = [
            {"kind": "comparison", "token": item.token, "created": item.created_at.isoformat(), "what": str(item.facts["clips"][0]["text"])}
            for item in store.list_comparisons(10_000)
        ]
        rows += [
            {"kind": "voice", "token": voice.id, "created": voice.created_at.isoformat(), "what": voice.transcript}
            for voice in store.list_voices()
        ]
        table = Table("kind", "token", "created", "text or transcript", header_style="bold")
        table.columns[1].no_wrap = True
        for row in rows:
            table.add_row(row["kind"], row["token"], row["created"][:16], escape(row["what"][:120]))
        console.print(table)
        if as_json:
            print_json({"stored": rows})


@stored_app.command("delete")
def stored_delete(
    token: Annotated[str, typer.Argument(help="As `stored list` shows it.")], data_dir: DataDir = None, as_json: Json = False
) -> None:
    """Delete a comparison or a voice, with the audio that nothing else uses."""
    with _store(data_dir, as_json) as store:
        try:
            store.delete_comparison(token)
        except NotFound:
            store.delete_voice(token)
        console.print(f"Deleted {token}.", markup=False)
        if as_json:
            print_json({"deleted": token})
