import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab.engine import weights
from lab.engine.device import Device
from lab.engine.weights import DEMO_DIR, HUB, WeightsError, choose, resolve, vocabulary

CPU = Device("cpu", "a CPU", "2.13.0")
H200 = Device("cuda", "NVIDIA H200", "2.11.0", (9, 0), 139.0)
ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_of_weights_has_a_name():
    assert resolve("demo").kind == "demo"
    assert all(resolve(name).kind == "hub" for name in HUB)
    assert resolve("random").architecture == "F5TTS_v1_Base"
    assert resolve("random:E2TTS_Base").architecture == "E2TTS_Base"
    assert resolve(str(DEMO_DIR)).kind == "path"
    assert resolve(str(DEMO_DIR / "model.safetensors")).architecture == "demo"


def test_only_random_values_are_not_to_be_heard():
    assert [resolve(name).audible for name in ("demo", "F5TTS_v1_Base", "random", "random:demo", str(DEMO_DIR))] == [
        True,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("name", ["nothing", "random:nothing", "/nowhere/at/all", ""])
def test_unknown_weights_are_refused_with_what_there_is(name):
    with pytest.raises(WeightsError, match="F5TTS_v1_Base"):
        resolve(name)


def test_a_folder_without_a_config_and_a_file_that_is_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"no config.yaml"):
        resolve(str(tmp_path))
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(WeightsError, match=r"safetensors or .pt"):
        resolve(str(tmp_path / "notes.txt"))
    (tmp_path / "config.yaml").write_text("model: [")
    with pytest.raises(WeightsError, match="shape of upstream's"):
        resolve(str(tmp_path))


def test_a_machine_without_cuda_starts_with_the_demo_and_says_why():
    choice = choose("auto", CPU)
    assert choice.weights.name == "demo"
    assert "no CUDA device" in choice.reason


@pytest.mark.parametrize(
    ("cached", "reachable", "name", "reason"),
    [
        (True, False, "F5TTS_v1_Base", "local cache"),
        (False, True, "F5TTS_v1_Base", "downloaded"),
        (False, False, "demo", "cannot be reached"),
    ],
)
def test_a_machine_with_cuda_takes_the_full_model_where_it_can_be_had(monkeypatch, cached, reachable, name, reason):
    monkeypatch.setattr(weights, "cached", lambda _weights: cached)
    monkeypatch.setattr(weights, "reachable", lambda _weights: reachable)
    choice = choose("auto", H200)
    assert choice.weights.name == name
    assert reason in choice.reason


def test_the_vocabulary_is_that_of_the_weights():
    demo = vocabulary(resolve("demo"))
    assert {"a", "Z", " ", ",", "?"} <= demo
    assert "é" not in demo
    full = vocabulary(resolve("F5TTS_v1_Base"))
    assert {"é", "你", ";"} <= full
    assert "😀" not in full


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs."""

    body = b"weights" * 300_000

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        if "/resolve/" not in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(self.body).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if body:
            self.wfile.write(self.body)

    def log_message(self, *_):
        pass


PROGRAM = """
import json
from lab.engine.compat import prepare_imports
prepare_imports()
from lab.engine import loading, weights
seen = []
path = loading._hub_file(*weights.HUB["F5TTS_v1_Base"], lambda *report: seen.append(report))
for name in weights.VOCODER_FILES:
    loading._hub_file(weights.VOCODER_REPO, name, lambda *report: None)
print("RESULT " + json.dumps({"path": path, "seen": seen, "cached": weights.cached(weights.resolve("F5TTS_v1_Base"))}))
"""


@pytest.mark.engine
def test_a_download_from_the_hub_reports_its_progress_and_is_found_in_the_cache_afterwards(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_DISABLE_XET": "1",
    }
    try:
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    finally:
        server.shutdown()
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.rpartition("RESULT ")[2])
    assert Path(result["path"]).read_bytes() == _Hub.body
    stage, last, total = result["seen"][-1]
    assert stage == "downloading F5TTS_v1_Base/model_1250000.safetensors"
    assert last == total == len(_Hub.body)
    assert result["cached"] is True


@pytest.mark.engine
def test_without_a_network_the_hub_weights_are_refused_with_what_to_do(tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "cannot be downloaded" in done.stderr
    assert "use --weights demo" in done.stderr
