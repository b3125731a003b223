"""Metrics: judged images in, numbers with intervals out. Imports no torch.

To add one, write its file (a class with `about` and `__call__`) and a line of `METRICS`; from outside the package name it as
"package.module:Class".
"""

from collections.abc import Collection, Iterable, Mapping
from typing import get_args

from expunge.config import import_class
from expunge.errors import ExpungeError
from expunge.evaluation.metrics.accuracy import CRA, IRA, NRA, ORA, UA, UASynonyms
from expunge.evaluation.metrics.base import Distance, Evidence, Mean, Measured, Metric, Score, Share
from expunge.evaluation.metrics.description import Description, Network
from expunge.evaluation.metrics.distances import FIDBase, FIDDrawn, KIDBase, KIDDrawn
from expunge.evaluation.metrics.distribution import OOD
from expunge.evaluation.metrics.listed import ON, describe_on_list
from expunge.evaluation.metrics.others import OTHERS
from expunge.evaluation.metrics.published import PUBLISHED
from expunge.evaluation.results import Sample
from expunge.evaluation.statistics import Interval
from expunge.names import suggest

METRICS: dict[str, Metric] = {
    metric.about.name: metric
    for metric in (
        UA(),
        UASynonyms(),
        IRA(),
        CRA(),
        NRA(),
        ORA(),
        OOD(),
        FIDBase(),
        FIDDrawn(),
        KIDBase(),
        KIDDrawn(),
        *PUBLISHED,
    )
}

NETWORKS = tuple(filter(None, get_args(Network)))
"""The keys of `--features`. Without a network of its own KID takes FID's."""

PAGE = "docs/how-to/add-a-metric.md"


def describe(name: str) -> Description:
    """What a metric of that name is; of an unknown one that it is a number, and nothing more."""
    if name in METRICS:
        return METRICS[name].about
    metric, on, listed = name.partition(ON)
    if on:
        return describe_on_list(describe(metric), name, listed)
    return OTHERS.get(name) or Description(name=name, title=name, form="mean", better="neither")


def described() -> dict[str, Description]:
    """Everything that is measured, in the order of tables."""
    return {name: metric.about for name, metric in METRICS.items()} | OTHERS


def resolve(names: Iterable[str], allow_code: bool = False) -> tuple[str, ...]:
    """The names of metrics as rows have them. A metric "package.module:Class" is imported and joins `METRICS` in this process.

    Args:
        allow_code: whether metrics outside the package may be imported. Give True for what a person typed, never for the content of a file
            that someone else may have written.

    Raises:
        ExpungeError: rule "unknown-metric"; code that cannot or may not be imported, that is no metric, or that has the name of another.
    """
    return tuple(_import(name, allow_code) if ":" in name else _known(name) for name in names)


def _known(name: str) -> str:
    if name not in METRICS:
        hint = suggest(name, METRICS, "`expunge ls metrics`")
        raise ExpungeError(f"{name!r} is not a metric.", rule="unknown-metric", value=name, hint=hint)
    return name


def _import(place: str, allow_code: bool) -> str:
    cls = import_class(place, (Metric,), "metric", PAGE, allow_code)
    name = cls.about.name
    if type(METRICS.get(name)) not in (type(None), cls) or name in OTHERS:
        raise ExpungeError(
            f"{place} has the name {name!r}, which is another metric's.",
            rule="metric-twice",
            value=name,
            hint="Try another name in its description.",
        )
    METRICS[name] = cls()
    return name


def refuse_networks(features: Mapping[str, str], real: str | None, metrics: Collection[str] | None = None) -> None:
    """Refuses networks that no metric reads, and metrics without their network or real images.

    Args:
        features: by key, the network's folder, id or file.
        real: the folder of real images.
        metrics: those that were chosen by name; None of all, where those without a network give no number.

    Raises:
        ExpungeError: rule "unknown-network", "missing-network" or "missing-real".
    """
    for key in features:
        if key not in NETWORKS:
            raise ExpungeError(
                f"{key!r} is not a metric that takes a network.", rule="unknown-network", value=key, hint=suggest(key, NETWORKS)
            )
    for about in (METRICS[name].about for name in metrics or ()):
        if about.network and about.network not in networks_of(features):
            raise ExpungeError(
                f"The metric {about.name} needs a network, and none is given.",
                rule="missing-network",
                value=about.name,
                hint=f"Try --features {about.network}=FOLDER, or in a suite features = {{{about.network} = ...}}.",
            )
        if "real" in about.needs and real is None:
            raise ExpungeError(
                f"The metric {about.name} needs real images, and none are given.",
                rule="missing-real",
                value=about.name,
                hint="Try --real FOLDER, or in a suite real = ...",
            )


def networks_of(features: Mapping[str, str]) -> dict[str, str]:
    """The network of every key that has one."""
    return {key: features.get(key) or features["FID"] for key in NETWORKS if key in features or (key == "KID" and "FID" in features)}


def measurable(features: Mapping[str, str], real: str | None) -> list[str]:
    """All metrics but those without their network or real images."""
    networks = networks_of(features)
    return [
        name
        for name, of in METRICS.items()
        if not of.about.network or (of.about.network in networks and ("real" not in of.about.needs or real))
    ]


def measure(evidence: Evidence, names: Collection[str] | None = None) -> list[Score]:
    """The scores of the named metrics in that order, of all metrics by default. A metric without what it needs gives none.

    Raises:
        ExpungeError: rule "unknown-metric".
    """
    return [score for name in (METRICS if names is None else map(_known, names)) for score in METRICS[name](evidence)]
