"""What all tests of the demo voice share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models this small are slower with more, above all beside other tests; processes that are started have one too."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(before)
