"""Many listeners at once against a real server: `python -m tests.listening.load` says how long a rating takes to be acknowledged.

The server is `python app.py` in a process of its own; the listeners are threads of this one, so on a small machine both share its cores.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lab.listening.model import StoredStudy
from lab.store import Store
from lab.study_store import Studies
from tests.listening.manifests import manifest
from tests.listening.real_server import Listener
from tests.ui.test_compare_browser import Server


def everybody(address: str, study: StoredStudy, listeners: int, ratings: int) -> list[float]:
    """Let `listeners` at once give `ratings` answers each; returns the seconds that each took to be acknowledged. Any error is raised."""

    def one(name: int) -> list[float]:
        draw = random.Random(name)
        answers = [1, 2, 3, 4, 5] if study.manifest.type == "acr" else ["A", "B"]
        listener = Listener(address, study, name, lambda trial, sounds: draw.choice(answers))
        listener.listen(ratings)
        return listener.acknowledged

    with ThreadPoolExecutor(listeners) as pool:
        return [seconds for mine in pool.map(one, range(listeners)) for seconds in mine]


def new_study(data: Path, kind: str = "abx", **settings: object) -> StoredStudy:
    """A study of small clips in a data folder that a server may be using."""
    store = Store.open(data)
    made, clips = manifest(kind, **settings)
    study = Studies(store).create(made, clips)
    store.close()
    return study


def main() -> None:
    """Measure, print a sentence and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listeners", type=int, default=50)
    parser.add_argument("--ratings", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a clip (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        study = new_study(data, trials=options.ratings, seconds=options.seconds)
        server = Server(data)
        began = time.perf_counter()
        try:
            took = 1000 * np.array(everybody(server.address, study, options.listeners, options.ratings))
        finally:
            server.stop()
    found = {
        "listeners": options.listeners,
        "ratings": len(took),
        "errors": 0,
        "seconds": round(time.perf_counter() - began, 1),
        **{f"p{q}_ms": round(float(np.percentile(took, q)), 1) for q in (50, 95, 99)},
        "most_ms": round(float(took.max()), 1),
    }
    print(
        f"{options.listeners} listeners gave {len(took)} ratings: acknowledged after {found['p50_ms']} ms (median), {found['p95_ms']} ms (p95)."
    )
    print(json.dumps(found, separators=(",", ":")))


if __name__ == "__main__":
    main()
