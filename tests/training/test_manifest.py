"""Code version and peak memory in a manifest."""

import mmap
import sys

import pytest
import torch

from mtl.store import code_version
from mtl.training import manifest
from mtl.training.evaluation import set_arithmetic
from mtl.training.manifest import execution, peak_memory_bytes, reset_peak_memory
from tests.training.runs import tiny

MEBIBYTE = 2**20


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the system does not say")


@LINUX
def test_peak_memory_counts_from_the_last_reset():
    reset_peak_memory()
    before = peak_memory_bytes()
    block = bytearray(b"x" * (64 * MEBIBYTE))  # and the bytes that it is made from: 128 MiB
    assert 120 * MEBIBYTE < peak_memory_bytes() - before < 140 * MEBIBYTE
    del block
    assert peak_memory_bytes() - before > 120 * MEBIBYTE
    reset_peak_memory()
    assert peak_memory_bytes() - before < 32 * MEBIBYTE


@LINUX
def test_mapped_files_do_not_count(tmp_path):
    path = tmp_path / "prepared"
    path.write_bytes(bytes(64 * MEBIBYTE))
    reset_peak_memory()
    before = peak_memory_bytes()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        assert peak_memory_bytes() - before < 16 * MEBIBYTE


def test_manifest_says_how_numbers_are_computed(tmp_path, monkeypatch):
    spec = tiny(precision="bf16")
    assert execution(spec, torch.device("cpu")) == {"precision": "bf16"}
    gpu = execution(spec, torch.device("cuda"))  # torch's settings, which need no GPU
    for name in ("float32_convolutions", "float32_products"):
        assert gpu[name] in ("none", "ieee", "tf32")
    assert gpu["cudnn"].keys() == {"version", "benchmark", "deterministic"}
    for kind in ("NVIDIA UNIX x86_64", "NVIDIA UNIX Open"):
        (tmp_path / "version").write_text(
            f"NVRM version: {kind} Kernel Module for x86_64  580.65.06  Sun Jul 27 2026\n"
        )
        monkeypatch.setattr(manifest, "DRIVER_FILE", tmp_path / "version")
        assert manifest.gpu_driver() == "580.65.06"
    monkeypatch.setattr(manifest, "DRIVER_FILE", tmp_path / "absent")
    assert manifest.gpu_driver() is None


def test_version_of_code_that_was_sent_is_known(monkeypatch):
    own = code_version.code_version()
    assert own.startswith("0.")
    monkeypatch.setenv(code_version.CODE_VERSION_VARIABLE, "0.1.0+abc")
    assert code_version.code_version() == "0.1.0+abc"


@pytest.mark.parametrize(
    ("precision", "kind"), [("tf32", "tf32"), ("bf16", "ieee"), ("float32", "ieee")]
)
def test_float32_is_float32_unless_the_spec_says_tf32(precision, kind):
    spec = tiny(precision=precision)
    set_arithmetic(spec)
    held = execution(spec, torch.device("cuda"))
    assert (held["float32_convolutions"], held["float32_products"]) == (kind, kind)
    assert held["cudnn"]["benchmark"]
    set_arithmetic(tiny())
