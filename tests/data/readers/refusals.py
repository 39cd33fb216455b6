"""How everything that reads data refuses: one sentence with what was expected and what is there."""

from collections.abc import Callable

import pytest

from mtl.errors import BadSampleError, UserError


def refused(call: Callable[[], object], *words: object, error: type[UserError] = UserError) -> None:
    """The call raises one sentence that has the words."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "xpected " in text
    assert ", got" in text, text
    assert text.endswith((".", ")"))
    assert "\n" not in text
    for word in words:
        assert str(word) in text, text


def refused_sample(call: Callable[[], object], *words: object) -> None:
    """The same of one bad sample, which --skip-bad would leave out."""
    refused(call, *words, error=BadSampleError)
