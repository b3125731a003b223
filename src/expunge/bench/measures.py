"""The keys of a suite that say how it is measured: its judge, its metrics, their networks, and real images."""

from collections.abc import Mapping
from typing import Any

from expunge.errors import ExpungeError
from expunge.evaluation.judge_settings import refuse_code, settings_of
from expunge.evaluation.metrics import refuse_networks, resolve


def check_measures(table: Mapping[str, Any], name: str, allow_code: bool) -> None:
    """Raise an error if a suite's judge, metrics or networks cannot be what they are called. No network is loaded.

    Args:
        table: the suite. Its values have the types of `bench.config.TYPES`.
        name: of the suite.
        allow_code: whether judges and metrics may be code outside the package, which is imported.

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
    if (judge := table.get("judge")) is not None:
        if not allow_code:
            refuse_code(judge)
        settings_of(judge)
