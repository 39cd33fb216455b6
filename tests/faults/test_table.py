"""Every fault that is promised to be survived has tests, and they exist where the table says."""

import ast
from pathlib import Path

import pytest

from tests.faults.table import ROWS

ROOT = Path(__file__).parents[2]
PROMISED = {
    "driver killed", "stop signals", "exception in a run", "run process killed", "raylet lost",
    "memory monitor", "disk full", "store file damaged", "checkpoint torn", "two drivers",
    "loss NaN", "clock set back", "plan edited", "worker outlives its driver", "node lost",
    "object storage refuses", "object storage is slow", "object storage drops connections",
    "node incompatible", "stop signal to the whole group",
}  # fmt: skip


def functions(file: str) -> dict[str, str]:
    """Return name -> decorators, as written, of a file's functions."""
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name: " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_promised_fault_is_in_the_table() -> None:
    assert ROWS.keys() >= PROMISED


@pytest.mark.parametrize("fault", ROWS)
def test_the_tests_of_a_row_exist_and_are_slow_only_where_it_says(fault: str) -> None:
    row = ROWS[fault]
    assert row.injection
    assert row.fast, "no test of the fault runs always"
    for test in (*row.fast, *row.full):
        file, name = test.split("::")
        assert name in functions(file), f"{test} does not exist"
        decorators = functions(file)[name]
        wholly_slow = decorators.startswith("pytest.mark.slow")
        assert wholly_slow <= (test in row.full), f"{test} is slow"
        assert ("slow" in decorators) >= (test in row.full), f"{test} is not slow"
