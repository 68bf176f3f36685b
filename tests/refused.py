# How a bad argument must be refused.
from __future__ import annotations

from collections.abc import Callable

import pytest

from captum_infomask import ArgumentError


def refused(words: tuple[str, ...], call: Callable[[], object]) -> ArgumentError:
    """The call's error: one line, with these words in it, of both kinds that users catch."""
    with pytest.raises(ArgumentError) as caught:
        call()
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AssertionError)
    assert message.startswith("Expected ")
    assert "\n" not in message
    assert len(message) < 400
    assert [word for word in words if word not in message] == [], message
    return caught.value
