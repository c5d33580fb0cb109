import time

import pytest

from tests import fakes, runs


@pytest.fixture
def fake_job(tmp_path, monkeypatch):
    """Makes jobs whose engines have no model, but are real processes; overlays and locks are in a folder of this test."""
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("lab.bench.measure.probe", lambda _kind: fakes.CPU)  # which would import torch in a process of its own

    def make(plan=None, **changes):
        return runs.job(plan, worker=fakes.FAKE_WORKER, began=time.time(), **changes)

    return make
