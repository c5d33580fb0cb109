"""What all tests share."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist (`-n 2 --dist loadgroup`): what renders or listens stays in one process, and one after another; the rest runs beside it."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()) or item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.xdist_group("device"))
