"""Start the web app: `python app.py`, then open the address it prints. `python app.py --help` lists the options."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

# before Gradio is imported: no analytics, no look for a newer version
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _port(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= 65535:
        raise argparse.ArgumentTypeError(f"{given[:20]!r} is no port: use a number from 1 to 65535")
    return int(given)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the options; refuses to share a page that anybody could use."""
    parser = argparse.ArgumentParser(prog="python app.py", description="iShowTTS Lab: compare F5-TTS engine configurations in the browser.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)")
    parser.add_argument(
        "--port", type=_port, default=os.environ.get("LAB_PORT", "7860"), help="port (default: %(default)s; also: LAB_PORT)"
    )
    parser.add_argument(
        "--weights", default="auto", help="auto, demo, F5TTS_v1_Base, F5TTS_Base, E2TTS_Base, random, or a path (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to render (default: %(default)s)")
    parser.add_argument("--auth", metavar="USER:PASSWORD", default=os.environ.get("LAB_AUTH"), help="ask for this login (also: LAB_AUTH)")
    parser.add_argument("--share", action="store_true", help="open a public link through Gradio's service; needs --auth")
    parser.add_argument(
        "--data-dir", default=None, help="where saved comparisons and voices go (default: LAB_DATA_DIR, or the user's data folder)"
    )
    parser.add_argument("--no-warm-start", action="store_true", help="start engines at the first click, not with the app")
    options = parser.parse_args(arguments)
    if options.auth is not None and not all(options.auth.partition(":")):
        parser.error("--auth is USER:PASSWORD, neither of them empty")
    if options.share and not options.auth:
        parser.error("--share makes the page public, and anybody with the link could use this machine: add --auth USER:PASSWORD")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the app until SIGTERM or Ctrl-C; returns the exit code."""
    options = parse(arguments)
    from pathlib import Path

    from lab.compare import max_seconds
    from lab.engine.device import probe
    from lab.engine.pool import EnginePool, workers_from_environment
    from lab.engine.weights import choose
    from lab.errors import LabError
    from lab.store import Store
    from lab.ui.app import build_app, launch_settings, warm_start
    from lab.ui.context import Context

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        device = probe(options.device)
        choice = choose(options.weights, device)
        store = Store.open(Path(options.data_dir) if options.data_dir else None)
        pool = EnginePool(choice.weights, device, max_workers=workers_from_environment())
        max_seconds()
    except LabError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    context = Context(pool, choice, store)
    app = build_app(context)
    try:
        app.launch(
            server_name=options.host,
            server_port=options.port,
            share=options.share,
            auth=tuple(options.auth.split(":", 1)) if options.auth else None,
            prevent_thread_lock=True,
            **launch_settings(context),
        )
    except OSError as error:
        print(f"Error: cannot listen on {options.host}:{options.port} ({error}). Choose another with --port.", file=sys.stderr)
        pool.close()
        return 2
    print(f"Weights: {choice.weights.name} on {device.name} ({choice.reason}).", flush=True)
    if not options.no_warm_start:
        threading.Thread(target=warm_start, args=(context,), daemon=True).start()
    ended.wait()
    print("Stopping: ending jobs and engines.", flush=True)
    context.jobs.stop_all()
    pool.close()
    app.close()
    store.close()
    context.scratch.cleanup()
    return 0


if __name__ == "__main__":
    sys.exit(main())
