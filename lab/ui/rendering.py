"""A comparison as a stream of events: rendered in a thread of its own, so that a page can show progress while the engine works."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.compare import compare
from lab.config import EngineConfig
from lab.engine.clip import Clip, RenderRequest
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Cancelled
from lab.errors import LabError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """What the rendering thread tells the page."""

    kind: str  # "progress" (stage, done, total), "clip" (Clip), "failure" (Failure), "stopped", "error" (message)
    value: Any = None


def rendering(pool: EnginePool, configs: Sequence[EngineConfig], request: RenderRequest, voice: str, cancel: Cancel) -> Iterator[Event]:
    """Run `compare` and yield what happens, until it is over. Whoever stops reading sets `cancel`."""
    events: queue.Queue[Event | None] = queue.Queue()

    def work() -> None:
        def progress(stage: str, done: int, total: int) -> None:
            events.put(Event("progress", (stage, done, total)))

        try:
            for item in compare(pool, configs, request, voice, cancel=cancel, progress=progress):
                events.put(Event("clip" if isinstance(item, Clip) else "failure", item))
        except Cancelled:
            events.put(Event("stopped"))
        except LabError as error:
            events.put(Event("error", str(error)))
        except Exception as error:  # the page has to come back to life whatever happened
            _log.exception("rendering failed")
            events.put(Event("error", f"{type(error).__name__}: {error}"))
        finally:
            events.put(None)

    threading.Thread(target=work, name="rendering", daemon=True).start()
    while (event := events.get()) is not None:
        yield event
