"""All pages put together, with what protects them."""

from __future__ import annotations

import contextlib
from typing import Any

import gradio as gr
from gradio.components.navbar import Navbar

from lab.bench.run_files import list_runs
from lab.config import DEFAULT_PAIR, parse
from lab.engine.weights import cached
from lab.errors import LabError
from lab.listening.service import Listening
from lab.ui import compare_layout, listen, runs_layout, studies_layout
from lab.ui.context import Context
from lab.ui.theme import CSS, theme

#: Arguments of `launch` that every start of the app uses. Nothing leaves the machine: no analytics, no server-side rendering by Node, no run history.
LAUNCH: dict[str, Any] = {
    "ssr_mode": False,
    "run_history": False,
    "enable_monitoring": False,
    "max_file_size": "10mb",
    "strict_cors": True,
    "footer_links": [],
}


def build_app(context: Context) -> gr.Blocks:
    """The lab's pages over `context`; launch them with `launch_settings`."""
    app: gr.Blocks
    with gr.Blocks(title="iShowTTS Lab", analytics_enabled=False, delete_cache=(3600, 86400)) as app:
        Navbar(main_page_name="Compare")
        compare_layout.build(app, context)
    with app.route("Runs", "/runs"):
        Navbar(main_page_name="Compare")
        runs_layout.build(app, context)
    with app.route("Studies", "/studies"):
        Navbar(main_page_name="Compare")
        studies_layout.build(app, context)
    # a queue position is all that strangers get: no endpoint is open, and the engine's own lock lets one job run at a time
    app.queue(api_open=False, max_size=32)
    return app


def launch_settings(context: Context) -> dict[str, Any]:
    """`LAUNCH` with the look of the pages, and the listeners' app beside them."""
    listeners = listen.build(Listening(context.studies, context.clock))
    return {**LAUNCH, "theme": theme(), "css": CSS, "app_kwargs": {"routes": [listen.route(listeners)]}}


def warm_start(context: Context) -> None:
    """List the runs, and start the engines of the preselected pair, while the person still types; what goes wrong is said when they ask for it.

    No engines when weights have to be downloaded first: that is for the first click, which shows its progress and can be stopped.
    """
    with contextlib.suppress(LabError):
        list_runs()  # reads every run once: half a second for 200 of them, which the first visitor need not wait for
    if not cached(context.choice.weights):
        return
    with contextlib.suppress(LabError):
        context.pool.prepare([parse(name) for name in DEFAULT_PAIR])
