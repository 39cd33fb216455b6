"""What all tests share: one thread, printed seeds, small runs and their data."""

import gc
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported anywhere: many small one-thread runs beat two-thread ones.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

from mtl.spec import RunSpec
from tests.s3_server import S3Server, running_s3_server

# A busy machine takes as long as it takes.
hypothesis.settings.register_profile("any_time", deadline=None)
hypothesis.settings.load_profile("any_time")

FIRST = (
    # Ray joins no cluster in a process where it had one of its own before.
    "sweeps/launch/test_cluster.py",
    "faults/test_processes.py",
    "sweeps/launch/test_launch.py",
    "test_docs.py",
    "test_own_loop.py",
    "analysis/test_page_in_browser.py",
    "weighting/test_ranks.py",
    "training/test_ranks.py",
    "store/test_conditional_writes.py",
)
"""Files that begin, most for their long tests: none is to be left to one worker at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of some files first."""
    folder = Path(__file__).parent
    order = {folder / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path, len(FIRST)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the tests: libraries and their names."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let libraries free at the end what they look for then."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _one_thread_and_seed(request: pytest.FixtureRequest) -> None:
    # Not above: the process that hands the files to the workers needs no torch.
    import torch

    from mtl.streams import seed_generators

    torch.set_num_threads(1)
    seed_generators(0)
    print(f"torch seed 0 for {request.node.name}")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder of prepared data for this test session."""
    return str(tmp_path_factory.mktemp("data"))


@pytest.fixture
def tiny_spec() -> RunSpec:
    """Return a run of about a second: 8 images of 32x32, 3 epochs, both default tasks."""
    return RunSpec.from_dict(tiny_fields())


def tiny_fields(**changes: object) -> dict[str, object]:
    """Return the fields of a tiny run, with top-level `changes`."""
    return {
        "epochs": 3,
        "batch_size": 4,
        "data": {
            "height": 32,
            "width": 32,
            "num_train": 8,
            "num_validation": 4,
            "num_test": 4,
        },
        "network": {
            "encoder": "test_efficientnet",
            "encoder_stride": 8,
            "decoder_widths": [8, 8, 8, 8, 8, 8],
        },
        "optimizer": {"learning_rate": 1e-3},
        **changes,
    }


@pytest.fixture
def make_tiny() -> object:
    """Return `tiny_fields` for tests that change fields."""
    return tiny_fields


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real images, or skip with a word."""
    folder = os.environ.get("MTL_REAL_DATA")
    if not folder:
        pytest.skip("MTL_REAL_DATA is not set: no real images on this machine")
    return Path(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Return a server of S3 on this machine, or skip with a word."""
    pytest.importorskip("moto", reason="moto is not installed: no object storage to test with")
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_address(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of a fresh prefix on object storage; credentials are in the environment.

    Subprocesses inherit them.
    """
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.address(f"tests/{uuid.uuid4().hex}")
