"""Assertions about the fields of an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import ANY

import pytest

from expunge.errors import ExpungeError


@contextmanager
def raises_error(rule: str, value: object = ANY, hint: str = "") -> Iterator[pytest.ExceptionInfo[ExpungeError]]:
    """The block must raise an error of this rule, with this value if one is given, and with a hint that contains `hint`."""
    with pytest.raises(ExpungeError) as caught:
        yield caught
    error = caught.value
    assert (error.rule, error.value) == (rule, value), error
    assert hint in error.hint
