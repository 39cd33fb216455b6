"""What tests of training share."""

import pytest

from mtl.spec import Runtime
from mtl.store import Store
from mtl.training import fit
from tests.training.runs import tiny


@pytest.fixture(scope="session")
def runtime(data_root: str) -> Runtime:
    return Runtime(device="cpu", data_root=data_root, num_samples=0)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Store:
    """Return a store with the finished tiny run."""
    store = Store(tmp_path_factory.mktemp("undisturbed") / "store")
    fit(tiny(), store, runtime)
    return store
