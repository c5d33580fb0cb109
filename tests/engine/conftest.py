import pytest

from tests import fakes


@pytest.fixture
def fake_pool(tmp_path, monkeypatch):
    """Makes pools whose workers have no model; their overlays and locks are in a folder of this test."""
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    pools = []

    def make(**settings):
        pools.append(fakes.fake_pool(**settings))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
