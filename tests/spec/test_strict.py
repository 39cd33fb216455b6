"""YAML read strictly."""

import math

import pytest

from mtl.spec.strict import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("020", 20), ("-016", -16), ("0255", 255), ("+7", 7), ("1:30", "1:30"), ("0x10", "0x10"),
        ("0b11", "0b11"), ("1_000", "1_000"), ("1e-3", 1e-3), ("010.5", 10.5), (".5", 0.5),
        ("2024-02-31", "2024-02-31"), ("true", True), ("null", None), ("[007, 08]", [7, 8]),
        ("---", None), ("+--", "+--"), (".inf", math.inf), ("'020'", "020"), ("", None),
    ],
)  # fmt: skip
def test_numbers_are_decimal_and_nothing_else_is_a_number(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "{a: 1", "[" * 1000, "9" * 5000, "!!python/name:os.system x", "!!int x"]
)
def test_yaml_that_is_damaged_or_ambiguous_is_a_value_error(text):
    with pytest.raises(ValueError, match="."):
        parse_yaml(text)
