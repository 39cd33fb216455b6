"""What tests of training share."""

import pytest

from mtl.spec import Runtime


@pytest.fixture
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", data_root=data_root, num_samples=0)
