"""A worker without a model: speaks the pool's protocol, and behaves as the text of the request tells it to."""

import hashlib
import json
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from lab.engine.clip import Chunk, Engagement, RenderResult


def milliseconds(config, number):
    """100, or what FAKE_WORKER_MS says for the configuration, with 1 % of noise."""
    times = json.loads(os.environ.get("FAKE_WORKER_MS", "{}"))
    noise = np.random.default_rng([os.getpid(), number]).normal(0, 0.01) if times else 0.0
    return float(times.get(config.name, 100.0) * np.exp(noise))


def differing(audio, config, request):
    """Farther from 32 steps the fewer there are; "late": four steps begin 100 ms later; "mute": four steps are silent; "still": all are the same."""
    if config.nfe >= 32 or "still" in request.text:
        return audio
    noise = np.random.default_rng(config.nfe).standard_normal(len(audio)).astype(np.float32)
    audio = audio + noise * np.float32(0.002 * (33 - config.nfe))
    if config.nfe == 4:
        audio[:2400] *= 0 if "late" in request.text else 1
        audio *= 0 if "mute" in request.text else 1
    return audio


def result(config, request, number):
    audio = np.random.default_rng(request.seed).standard_normal(24_000).astype(np.float32) * 0.1
    if "louder" in config.name:
        audio = audio * 2
    if os.environ.get("FAKE_WORKER_DIFFERS"):  # by the number of steps, as real configurations do
        audio = differing(audio, config, request)
    if "overflow" in request.text and config.nfe == 6:
        audio[5] = np.nan
    samples = len(audio) - (1000 if "longer" in request.text and config.nfe == 6 else 0)
    digest = hashlib.sha256(audio.tobytes()).hexdigest()
    total = milliseconds(config, number)
    return RenderResult(
        samples=samples,
        frames=95,
        total_ms=total,
        stages_ms={"reference": 1.0, "text": 1.0, "sampler": total - 10, "vocoder": 5.0, "transfer": 1.0, "other": 2.0},
        steps_ms=((total - 10) / config.nfe,) * config.nfe,
        empty_cache_ms=0.0,
        peak_memory_mb=100.0,
        memory_kind="resident",
        chunks=(Chunk(request.text, 200, "noise"),),
        noise_sha256="noise",
        mel_sha256="mel",
        audio_sha256=digest,
        engagement=Engagement("overlay", 0, {}, 0, {"pid": str(os.getpid())}),
        invalid=() if np.isfinite(audio).all() else ("not finite",),
        warm_engine=number > 0,
        audio=audio[:samples],
        mel=np.zeros((100, 95), np.float32),
    )


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    order = connection.recv()
    connection.send(("progress", "loading", 0, 0))
    if order["config"].nfe == 98:
        for step in range(30):
            connection.send(("progress", "downloading weights", step, 30))
            time.sleep(0.1)
    if order["config"].nfe == 99:
        connection.send(("refused", "These weights are incomplete."))
        return
    connection.send(("done", time.monotonic()))
    number = 0
    while True:
        try:
            _, config, request = connection.recv()
        except EOFError:
            return
        connection.send(("progress", "sampling", 1, 7))
        if "die" in request.text and config.nfe != 2:
            print("a last word", file=sys.stderr, flush=True)
            os._exit(3)
        if "refuse" in request.text:
            connection.send(("refused", "That cannot be said."))
            continue
        if "fail" in request.text:
            connection.send(("failed", "The GPU ran out of memory."))
            return
        steps = 3000 if "sleep" in request.text else 150 if "nap" in request.text else 0
        if steps and config.nfe != 2:
            for step in range(steps):
                connection.send(("progress", "sampling", step, steps))
                time.sleep(0.01)
        log = os.environ.get("FAKE_WORKER_LOG")
        if log:
            with Path(log).open("a", buffering=1) as file:  # line by line, so that a test sees what has begun and not ended
                file.write(f"{os.getpid()} begin {time.monotonic()}\n")
                time.sleep(0.02)
                file.write(f"{os.getpid()} end {time.monotonic()}\n")
        connection.send(("done", result(config, request, number)))
        number += 1


if __name__ == "__main__":
    main()
