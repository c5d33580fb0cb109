"""What holds for all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from lab.engine.device import probe
from lab.engine.patching import cache_dir
from tests import warm_worker

# how long an example takes depends on what else the machine does
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")

# nothing is timed here, so that test processes side by side need not wait for each other's engine
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["LAB_CACHE_DIR"] = str(cache_dir() / worker)

#: The files that take longest, the longest first: where processes share files (`-n 2 --dist loadfile --no-loadscope-reorder`), none may be left for the end.
LONGEST = (
    "ui/test_compare_browser.py",
    "engine/test_real_engine.py",
    "ui/test_listen_types.py",
    "ui/test_player.py",
    "ui/test_runs_browser.py",
    "ui/test_listen_browser.py",
    "ui/test_studies_browser.py",
    "listening/test_server.py",
    "demo_voice/test_evaluation.py",
    "demo_voice/test_shipped.py",
    "bench/test_cluster.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def warm_workers():
    """What a pool starts real workers with that are ready in half a second."""
    with warm_worker.serving() as command:
        yield command


@pytest.fixture(scope="session")
def cpu():
    """This machine's processor, looked at once: that takes a process of its own, which imports torch."""
    return probe("cpu")
