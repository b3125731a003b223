"""Usage errors of the argument parser, as errors with a rule, the value and a hint."""

from collections.abc import Sequence
from typing import Any

from expunge.cli.options import read_option_values
from expunge.errors import ExpungeError
from expunge.names import suggest


def convert(error: Any, arguments: Sequence[str]) -> ExpungeError:
    """A usage error of click as an `ExpungeError`.

    Its classes are told apart by their attributes, because typer has taken click into itself: where they can be imported from depends on
    its version.
    """
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    see = f"`{context.command_path if context else 'expunge'} --help`"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        known = [name for one in context.command.get_params(context) for name in one.opts] if context else error.possibilities or ()
        return ExpungeError(f"{option!r} is not an option.", rule="unknown-option", value=option, hint=suggest(option, known, see))
    if option is not None:
        return ExpungeError(f"Option {option!r} has no value.", rule="missing-value", value=option, hint=f"Try {option} VALUE.")
    if hasattr(error, "param_type") and parameter is not None:
        name = _name(parameter)
        return ExpungeError(f"{name!r} is missing.", rule="missing-parameter", value=name, hint=f"Try {see}.")
    reason = error.message.rstrip(".")
    if parameter is not None:
        given = read_option_values(parameter.opts, arguments)
        shown = f" {given[-1]!r}" if given else ""
        message = f"{_name(parameter)!r} does not take{shown or ' this value'}: {reason[:1].lower()}{reason[1:]}."
        return ExpungeError(message, rule="invalid-value", value=given[-1] if given else None, hint=f"Try {see}.")
    return ExpungeError(f"{reason[:1].upper()}{reason[1:]}.", rule="usage", value=" ".join(arguments), hint=f"Try {see}.")


def _name(parameter: Any) -> str:
    """An option's longest flag, or the name of an argument as help shows it."""
    return max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.metavar or parameter.name
