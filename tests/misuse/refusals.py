"""What a table of wrong uses holds, and how one is tried."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest


class Wrong(NamedTuple):
    """A call as a user makes it, the error that it must raise, and words that the error must say."""

    call: Callable[[], Any]
    error: type[Exception]
    words: str


def is_refused(wrong: Wrong) -> None:
    """Fail unless the call raises exactly that error, with the words in its message or its notes."""
    with pytest.raises(wrong.error) as caught:
        wrong.call()
    assert caught.type is wrong.error
    assert wrong.words in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
