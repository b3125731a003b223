"""The type checker that tests put around every function of the package (see `conftest.py`)."""

from collections.abc import Callable

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

# As for every static checker, an int will do where a float is asked for.
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function: Callable) -> Callable:
    """`function` with its arguments and result checked.

    It stays as it is where they mention a protocol that cannot be checked at run time, and inside another function: a check of such a
    one would be made anew at each call, which took a tenth of the time of all tests.
    """
    if "<locals>" in function.__qualname__:
        return function
    try:
        return _check(function)
    except BeartypeDecorHintPep3119Exception:
        return function
