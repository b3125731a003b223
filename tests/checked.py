"""The type checker that tests put around every function of the package that makes a promise about shapes (see `conftest.py`)."""

import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

# As for every static checker, an int will do where a float is asked for.
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_jaxtyped = jaxtyping.jaxtyped


def checked(function: Callable) -> Callable:
    """`function` with its arguments and result checked; as it is where they mention a protocol that cannot be checked at run time."""
    try:
        return _check(function)
    except BeartypeDecorHintPep3119Exception:
        return function


def where_promised(*, typechecker: Callable) -> Callable[[Any], Any]:
    """In place of `jaxtyping.jaxtyped`: checks what promises shapes, a twelfth of all functions. Of the rest mypy knows as much."""
    return lambda decorated: _jaxtyped(decorated, typechecker=typechecker) if _promises(decorated) else decorated


def _promises(decorated: Any) -> bool:
    """Whether a signature, or a field of a dataclass, names shapes: `Float[Tensor, "b c h w"]`. A function inside another would be wrapped
    anew at each call of that one, so it promises nothing."""
    if isinstance(decorated, property):
        return any(map(_promises, filter(None, (decorated.fget, decorated.fset))))
    written = decorated.__func__ if isinstance(decorated, classmethod | staticmethod) else decorated
    if "<locals>" in getattr(written, "__qualname__", ""):
        return False
    return "jaxtyping." in repr(inspect.get_annotations(written.__init__ if inspect.isclass(written) else written))
