"""Long work as a stream of events: done in a thread of its own, so that a page can show progress while the engine works."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.compare import compare
from lab.config import EngineConfig
from lab.engine.clip import Clip, RenderRequest
from lab.engine.pool import EnginePool
from lab.engine.process import Cancel, Cancelled, Progress
from lab.errors import LabError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Event:
    """What the working thread tells the page."""

    kind: str  # "progress" (stage, done, total), "clip" (Clip), "failure" (Failure), "done" (a result), "stopped", "error" (message)
    value: Any = None


def working(work: Callable[[Callable[[Event], None]], None]) -> Iterator[Event]:
    """Run `work(tell)` and yield what it tells, until it is over, and how it ended if it did not end well. Whoever stops reading has to stop the work."""
    events: queue.Queue[Event | None] = queue.Queue()

    def whole() -> None:
        try:
            work(events.put)
        except Cancelled:
            events.put(Event("stopped"))
        except LabError as error:
            events.put(Event("error", str(error)))
        except Exception as error:  # the page has to come back to life whatever happened
            _log.exception("work for a page failed")
            events.put(Event("error", f"{type(error).__name__}: {error}"))
        finally:
            events.put(None)

    threading.Thread(target=whole, name="working for a page", daemon=True).start()
    while (event := events.get()) is not None:
        yield event


def following(tell: Callable[[Event], None]) -> Progress:
    """An engine's progress that is told as events."""
    return lambda stage, done, total: tell(Event("progress", (stage, done, total)))


def rendering(pool: EnginePool, configs: Sequence[EngineConfig], request: RenderRequest, voice: str, cancel: Cancel) -> Iterator[Event]:
    """Run `compare` and yield what happens, until it is over. Whoever stops reading sets `cancel`."""

    def work(tell: Callable[[Event], None]) -> None:
        for item in compare(pool, configs, request, voice, cancel=cancel, progress=following(tell)):
            tell(Event("clip" if isinstance(item, Clip) else "failure", item))

    return working(work)
