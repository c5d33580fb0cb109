"""The real server in this process, and listeners that speak its API as a browser does: POSTs to the page's one server function."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from lab.listening.model import StoredStudy
from lab.listening.service import Listening
from lab.ui.app import build_app, launch_settings
from lab.ui.context import Context
from tests.fakes import lab_context
from tests.listening.manifests import manifest


class Clock:
    """A clock that listeners can put forward, so that they need not wait while clips would sound."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        self.seconds += 0.001
        return self.seconds


class Served:
    """A lab that is running in this process."""

    def __init__(self, context: Context, address: str, clock: Clock) -> None:
        self.context, self.address, self.clock = context, address, clock
        self.service = Listening(context.studies, context.clock)

    def study(self, kind: str, **settings: Any) -> StoredStudy:
        """A new study of small clips."""
        made, clips = manifest(kind, **settings)
        return self.context.studies.create(made, clips)

    def listener(
        self, study: StoredStudy, name: int, choose: Callable[[dict[str, Any], dict[str, bytes]], Any], *, http: bool = True
    ) -> "Listener":
        """A listener who need not wait while clips sound; without `http` one who asks what the server asks, in a twentieth of the time."""

        def forward(seconds: float) -> None:
            self.clock.seconds += seconds

        return Listener(self.address, study, name, choose, forward, None if http else Direct(self.service, study.token))

    def link(self, study: StoredStudy) -> str:
        return f"{self.address}/listen?s={study.token}"


@contextmanager
def serving(folder: Path, clock: Callable[[], float] | None = None, **launch: Any) -> Iterator[Served]:
    """The whole lab over a fake engine, listeners' pages included; `launch` are more arguments for Gradio."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = Clock()
    with lab_context(folder) as context:
        context.clock = clock or own
        app = build_app(context)
        settings = {**launch_settings(context), **launch}
        app.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **settings)
        try:
            yield Served(context, f"http://127.0.0.1:{port}", own)
        finally:
            app.close(verbose=False)


class Line:
    """One listener's way to the server."""

    def __init__(self, address: str, study: str, timeout: float = 60) -> None:
        self.study, self.session = study, None
        self.client = httpx.Client(base_url=address, timeout=timeout, verify=False)
        config = self.client.get("/listen/config").json()
        self.component = next(block["id"] for block in config["components"] if block["type"] == "html")

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        data = {"do": what, "study": self.study, "session": self.session, **more}
        body = {"session_hash": "test", "component_id": self.component, "fn_name": "ask", "data": data}
        answer = self.client.post("/listen/gradio_api/component_server/", json=body)
        answer.raise_for_status()
        return answer.json()


class Direct:
    """The same without a network; questions and answers are JSON all the same."""

    def __init__(self, service: Listening, study: str) -> None:
        self.service, self.study, self.session = service, study, None

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        data = {"do": what, "study": self.study, "session": self.session, **more}
        return json.loads(json.dumps(self.service.answer(json.loads(json.dumps(data)))))


class Listener:
    """A listener that hears what its browser would hear, and answers by `choose(trial, sounds)`, sounds being {label: WAV bytes}."""

    def __init__(
        self,
        address: str,
        study: StoredStudy,
        name: int,
        choose: Callable[[dict[str, Any], dict[str, bytes]], Any],
        wait: Callable[[float], None] = time.sleep,
        line: Direct | None = None,
    ) -> None:
        self.line, self.choose, self.wait = line or Line(address, study.token), choose, wait
        self.name = f"listener-number-{name:08d}"
        self.acknowledged: list[float] = []  # seconds that each rating took

    def begin(self) -> dict[str, Any]:
        state = self.line.ask("begin", listener=self.name, consent=True)
        self.line.session = state.get("session")
        return state

    def hear(self, trial: dict[str, Any]) -> tuple[dict[str, bytes], dict[str, str]]:
        """The clips of a trial and their receipts, by label."""
        sounds, receipts = {}, {}
        for track in trial["tracks"]:
            answer = self.line.ask("clip", token=track["token"])
            sounds[track["label"]], receipts[track["label"]] = unsealed(answer), answer["receipt"]
        return sounds, receipts

    def rating(self, trial: dict[str, Any]) -> dict[str, Any]:
        """A whole answer, after hearing every clip for as long as has to be."""
        sounds, receipts = self.hear(trial)
        self.wait(sum(trial["needed"].values()) + 0.02)
        answer = self.choose(trial, sounds)
        return {
            "trial": trial["number"],
            "key": f"{self.name}-{trial['number']}",
            "answer": answer,
            "heard": trial["needed"],
            "receipts": receipts,
        }

    def listen(self, most: int = 10_000) -> dict[str, Any]:
        """Answer trials until there is none left, or `most` of them; the last state."""
        state = self.begin()
        while state["screen"] == "trial" and len(self.acknowledged) < most:
            whole = self.rating(state["trial"])
            began = time.perf_counter()
            answer = self.line.ask("rate", **whole)
            assert answer.get("accepted") is True, answer
            self.acknowledged.append(time.perf_counter() - began)
            state = answer["state"]
        return state


def unsealed(answer: dict[str, str]) -> bytes:
    """The WAV bytes of a clip as the page opens them."""
    sealed, key = (np.frombuffer(base64.b64decode(answer[name]), np.uint8) for name in ("sealed", "key"))
    return bytes(np.bitwise_xor(sealed, np.resize(key, sealed.shape)))
