"""Real workers that are ready in half a second instead of six: forked from one process that has imported what is the same for all of them.

`python -m tests.warm_worker SOCKET` is that process. It has imported torch and what else an engine needs, but nothing of f5-tts, which each worker takes
from its own overlay. What a pool starts is a small program that hands its files to that process and waits: the worker dies with it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

# Without the site packages it starts in 20 ms. What it gives away are the socket to the pool, its output and its environment.
_HAND_OVER = """
import json, os, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
socket.send_fds(line, [json.dumps(dict(os.environ)).encode()], [int(sys.argv[2]), 1, 2])
os.close(int(sys.argv[2]))
line.recv(1)
"""
_SHARED = (
    "accelerate ema_pytorch hydra.utils librosa.filters pydub pypinyin rjieba safetensors.torch soundfile torchaudio torchdiffeq tqdm.auto vocos"
    " x_transformers"
)


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, ...]]:
    """The command for pools whose workers are forked from a process that is there meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        start = [sys.executable, "-m", "tests.warm_worker", path]
        with subprocess.Popen(start, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield (sys.executable, "-I", "-S", "-c", _HAND_OVER, path)
            finally:
                process.terminate()


def _serve(path: str) -> None:
    """Fork a worker for everybody who connects."""
    from lab.engine.compat import prepare_imports

    prepare_imports()
    for name in _SHARED.split():
        importlib.import_module(name)
    assert "f5_tts" not in sys.modules
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen(32)
        print("ready", flush=True)
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                _work(line)
            line.close()


def _work(line: socket.socket) -> None:
    """Become the worker of whoever is at the other end of `line`."""
    from lab.engine.worker import main

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, (pool, *output), _, _ = socket.recv_fds(line, 2**18, 3)
    for number, handle in enumerate(output, 1):
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update(json.loads(text))
    tempfile.tempdir = None
    threading.Thread(target=_die_with, args=(line,), daemon=True).start()
    try:
        main(pool)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _die_with(line: socket.socket) -> None:
    """Kill this process when the one at the other end has ended."""
    line.recv(1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _serve(sys.argv[1])
