"""The script for a GPU machine runs here in its smallest size."""

import pytest
import torch

from tests.benchmarks.gpu import (
    WAYS,
    Sizes,
    one_run,
    packed_runs,
    roofline,
    several_runs,
    spec_of,
)

SMALLEST = Sizes(2, 0.0, 1, side=32, batch_size=2, processes=(), matrix=64, presets=())
PRESET = "nyuv2_mobilenet"


def test_presets_are_measured_as_the_paper_has_them_but_for_their_size():
    small, full = (spec_of(PRESET, WAYS[0], Sizes(64, 6.0, side=s)) for s in (32, None))
    assert (full.data.height, full.data.width, full.batch_size) == (288, 384, 8)
    assert small.data.height == small.data.width == 32
    assert small.network == full.network
    assert spec_of(PRESET, WAYS[-1], SMALLEST).precision == "bf16"


@pytest.mark.slow
def test_one_run_is_measured_and_what_bounds_it_is_said(data_root):
    peaks = roofline(SMALLEST.matrix, torch.device("cpu"))
    assert peaks.keys() == {"float32", "bf16"}
    row = one_run(PRESET, WAYS[0], SMALLEST, "cpu", data_root, peaks)
    assert row.rate is not None
    assert row.rate > 0
    assert "of the float32 roofline; bound by " in row.note
    assert row.note.startswith("eager: no GPU; ")


@pytest.mark.slow
def test_packed_runs_are_measured_all_together(data_root):
    row = packed_runs(PRESET, WAYS[0], 2, SMALLEST, "cpu", data_root)
    assert row.rate is not None
    assert row.way == "2 packed, eager, copies that wait"


@pytest.mark.slow
def test_several_processes_begin_together_and_their_rates_add_up(data_root):
    row = several_runs(PRESET, WAYS[0], 2, SMALLEST, "cpu", data_root, 300.0)
    assert row.rate is not None, row.note
    assert row.note.endswith("each")


@pytest.mark.slow
def test_process_that_fails_is_a_row_that_says_why():
    row = several_runs("no_preset", WAYS[0], 1, SMALLEST, "cpu", "/nowhere", 60.0)
    assert row.rate is None
    assert row.note == "not measured: KeyError: 'no_preset'"
