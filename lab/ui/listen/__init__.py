"""The listener's page: an app of its own under `/listen`, so that nothing of the lab's other pages, and no login, stands between a listener and the test.

`page.js` (DOM, memory, the way to the server), `headphones.js`, `questions.js` (answers of each test type), `trial.js` and `listen.js` (the screens) run with
the player's scripts in one component. All words are in `words.py`. The server's half is `lab.listening.service`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from lab.listening.service import Listening
from lab.ui import player
from lab.ui.listen.words import WORDS
from lab.ui.theme import theme

PATH = "/listen"

_FOLDER = Path(__file__).parent
_SCRIPTS = ("page.js", "headphones.js", "questions.js", "trial.js", "listen.js")
#: The page is wide enough by itself; Gradio's own frame keeps out of the way.
_CSS = """
.gradio-container { max-width: 780px !important; margin: 0 auto !important; width: 100%; }
.gradio-container .main.fillable { padding-inline: clamp(8px, 3.3vw - 4px, 24px) !important; padding-block: 8px !important; }
footer { display: none !important; }
"""


class ListenPage(gr.HTML, metaclass=player.NoStub):
    """All screens of a listening test; which study it is stands in the page's address (`?s=<token>`)."""

    def __init__(self, listening: Listening) -> None:
        def ask(question: object) -> dict[str, Any]:
            return listening.answer(question)

        super().__init__(
            "",
            html_template=player.read("listen.html", folder=_FOLDER).replace("PLAYER", player.read("player.html")),
            css_template=player.read("player.css") + "\n" + player.read("listen.css", folder=_FOLDER),
            js_on_load="'use strict';\n" + player.read(*player.SCRIPTS) + "\n" + player.read(*_SCRIPTS, folder=_FOLDER),
            apply_default_css=False,
            server_functions=[ask],
            words=WORDS,
        )


def build(listening: Listening) -> gr.Blocks:
    """The app that listeners open."""
    app: gr.Blocks
    with gr.Blocks(title=WORDS["title"], analytics_enabled=False) as app:
        ListenPage(listening)
    app.queue(api_open=False, max_size=1)
    return app


def route(listeners: gr.Blocks) -> Mount:
    """`listeners` under `PATH`, as a route for the lab to be launched with: before its own, and outside its login, as the token in a link is the key."""
    holder = gr.mount_gradio_app(
        FastAPI(),
        listeners,
        path=PATH,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        enable_monitoring=False,
        theme=theme(),
        css=_CSS,
    )
    # no events run here, so Gradio's queue need not be started: the page has one server function, which does not go through it
    return next(route for route in holder.routes if isinstance(route, Mount) and route.path == PATH)
