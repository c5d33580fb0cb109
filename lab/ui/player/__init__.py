"""The synchronised player: several clips, one clock, one of them heard.

A page makes a `SyncPlayer` with a function that turns a token into WAV bytes, and gives it tracks through `SyncPlayer.value_of`. The player knows
no configurations and no studies: a token is opaque, a label is text. The browser's half is in `player.html`, `player.css`, and the scripts
`fader.js` (one gain), `engine.js` (the sound), `view.js` (the DOM), `player.js` (what joins them to keys and a server) and `mount.js` (what puts it into
a component), which run as one. The page of a listening test has a component of its own around the same scripts.
"""

import base64
import hashlib
import json
from abc import ABCMeta
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.component_meta import ComponentMeta, updateable

from lab.errors import LabError

__all__ = ["SyncPlayer", "Track"]

UNKNOWN_CLIP = "The server does not have this clip any more. Render it again."

_FOLDER = Path(__file__).parent
SCRIPTS = ("fader.js", "engine.js", "view.js", "player.js")  # all but what joins them to a component of their own


def read(*names: str, folder: Path = _FOLDER) -> str:
    """Those files of a component (of the player, unless `folder` says otherwise), one after another."""
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


@dataclass(frozen=True)
class Track:
    """One clip of a player, as its button shows it."""

    token: str
    """Opaque key of the clip; the only thing that names it on the wire."""

    label: str
    """What the button shows: "baseline", or "A" in a blind test. A track labelled "X" is also chosen by the key x."""

    note: str = ""
    """A short line below the label, e.g. "difference, +24 dB"."""


class NoStub(ComponentMeta):
    """Gradio's metaclass without its last step, which writes a copy of the module as `.pyi` beside it, where mypy would read it instead."""

    def __new__(mcs, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> "NoStub":
        if "__init__" in attrs:
            attrs["__init__"] = updateable(attrs["__init__"])  # type: ignore[no-untyped-call]
        return ABCMeta.__new__(mcs, name, bases, attrs)


class SyncPlayer(gr.HTML, metaclass=NoStub):
    """Plays clips in step and switches between them without a gap; give it what `value_of` returns.

    Events (their data is in `gr.EventData`): `chosen(token)` when a listener chooses a track, and `heard(token, seconds)` when a track has sounded:
    all its audible seconds since the tracks were given, told at a switch, a pause, the end and every loop point. They are what the browser says; a
    page that counts on them checks the token against its own record.
    """

    def __init__(
        self,
        fetch: Callable[[str], bytes],
        *,
        loop: bool = True,
        value: str | None = None,
        visible: bool | Literal["hidden"] = True,
        elem_id: str | None = None,
        elem_classes: list[str] | str | None = None,
        scale: int | None = None,
        min_width: int | None = None,
        render: bool = True,
        key: int | str | tuple[int | str, ...] | None = None,
    ) -> None:
        """Make a player.

        Args:
            fetch: gives the WAV bytes of a token. A `KeyError` says that the token is unknown; the message of a `LabError` is shown to the listener.
            loop: whether the clips repeat until they are paused; a listener can change it.
            value: what is played at first, from `value_of`.
            visible: as in `gr.HTML`, like the arguments after it.
            elem_id: the id in the page.
            elem_classes: more classes in the page.
            scale: width relative to the neighbours in a row.
            min_width: least width in pixels before a row wraps.
            render: whether it appears where it is made.
            key: identity of the component in `gr.render`.
        """

        def clip(question: object) -> dict[str, str]:
            return _answer(fetch, question)

        self.loop = loop
        super().__init__(
            value,
            html_template=read("player.html"),
            css_template=read("player.css"),
            js_on_load="'use strict';\n" + read(*SCRIPTS, "mount.js"),
            apply_default_css=False,
            server_functions=[clip],
            visible=visible,
            elem_id=elem_id,
            elem_classes=elem_classes,
            scale=scale,
            min_width=min_width,
            render=render,
            key=key,
            loop=loop,
        )

    @staticmethod
    def value_of(tracks: Sequence[Track], *, chosen: str | None = None) -> str:
        """What an event returns for a player: these tracks, with the token `chosen` (or the first one) selected.

        Equal tracks give an equal value, which is not loaded again. The same tokens under other labels change the labels and nothing that sounds.
        """
        tokens = [track.token for track in tracks]
        if len(set(tokens)) < len(tokens):
            raise ValueError("two tracks have the same token")
        if chosen is not None and chosen not in tokens:
            raise ValueError(f"no track has the chosen token {chosen!r}")
        listed = [asdict(track) for track in tracks]
        version = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]
        # No "<" in the value: nothing on its way to the page can take a label for markup.
        return json.dumps({"version": version, "tracks": listed, "chosen": chosen}).replace("<", "\\u003c")


def _answer(fetch: Callable[[str], bytes], question: object) -> dict[str, str]:
    """What the browser gets for `{"token": ...}`: the clip's bytes, or an error that says what to do."""
    token = question.get("token") if isinstance(question, dict) else None
    if not isinstance(token, str):
        return {"error": UNKNOWN_CLIP}
    try:
        return {"wav": base64.b64encode(fetch(token)).decode("ascii")}
    except KeyError:
        return {"error": UNKNOWN_CLIP}
    except LabError as error:
        return {"error": str(error)}
