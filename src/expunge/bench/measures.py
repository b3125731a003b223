"""The keys of a suite that say how it is measured: its judge, its metrics, their networks, and real images."""

from collections.abc import Mapping
from typing import Any

from expunge.errors import ExpungeError
from expunge.evaluation.judge_settings import refuse_code, settings_of
from expunge.evaluation.metrics import refuse_networks, resolve


def check_measures(table: Mapping[str, Any], name: str, allow_code: bool, is_typed: bool = False) -> None:
    """Raise an error if a suite's judges, metrics or networks cannot be what they are called. No network is loaded.

    Args:
        table: the suite. Its values have the types of `bench.config.TYPES`.
        name: of the suite.
        allow_code: whether judges and metrics may be code outside the package, which is imported.
        is_typed: whether a person typed `judge`, which may be code then.

    Raises:
        ExpungeError: a judge has settings that it does not take; a metric is unknown, or lacks its network or real images; code may not
            be imported.
    """
    features = table.get("features", {})
    if odd := next((value for value in features.values() if not isinstance(value, str)), None):
        raise ExpungeError(
            f"The features of the suite {name!r} name {odd!r}, which is no folder, id or file.",
            rule="wrong-type",
            value=odd,
            hint="Try the form in docs/how-to/run-a-suite.md.",
        )
    refuse_networks(features, table.get("real"), resolve(table.get("metrics") or (), allow_code))
    for judge, may_be_code in (
        (table.get("judge"), allow_code or is_typed),
        *((own, allow_code) for own in table.get("judges", {}).values()),
    ):
        if judge is not None:
            if not may_be_code:
                refuse_code(judge)
            settings_of(judge)
