"""What holds for all tests."""

import os

from hypothesis import settings

from lab.engine.patching import cache_dir

# how long an example takes depends on what else the machine does
settings.register_profile("lab", deadline=None)
settings.load_profile("lab")

# nothing is timed here, so that test processes side by side need not wait for each other's engine
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["LAB_CACHE_DIR"] = str(cache_dir() / worker)
