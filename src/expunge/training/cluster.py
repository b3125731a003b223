"""A Ray cluster: where suites, evaluations and audits share their work among machines."""

import os
import sys
from typing import Any

from expunge.errors import ExpungeError


def connected(address: str | None, workers: int | None = None) -> Any:
    """The package `ray`, connected to a cluster.

    Args:
        address: of a running cluster ("auto", "ray://host:10001"); None starts a local one, which accepts no other connections.
        workers: processes of a local cluster; None: as many as there are cores.

    Raises:
        ExpungeError: rule "ray-not-installed" or "cluster-not-reached".
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ExpungeError(
            "A Ray cluster needs the package ray, which is not installed.",
            rule="ray-not-installed",
            value="ray",
            hint="Try pip install 'expunge[ray]', or leave --engine and --address out.",
        ) from error
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            if address:
                ray.init(address, **quiet)
            else:
                ray.init(num_cpus=workers, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            line = str(error).strip().splitlines()[0]
            raise ExpungeError(
                f"The Ray cluster {address or 'local'!r} cannot be reached: {line}.",
                rule="cluster-not-reached",
                value=address,
                hint="Try to start the cluster, or leave --address out.",
            ) from error
    return ray


def import_path() -> dict[str, str]:
    """The environment in which a process on this machine imports from the same places as this one."""
    return {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
