"""Who does the work: this process, one unit after another, or a Ray cluster. Both take and give the same text."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from annotated_types import Ge

from expunge.bench.results import Outcome
from expunge.bench.runner import Place, failed, work
from expunge.bench.suite import Unit
from expunge.errors import ExpungeError


class Engine(Protocol):
    """Does units, in any order, and tells of each when it is over."""

    def __call__(self, units: Sequence[Unit], place: Place) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class Serial:
    """One unit after another in this process."""

    def __call__(self, units: Sequence[Unit], place: Place) -> Iterator[Outcome]:
        for unit in units:
            yield Outcome(**json.loads(work(place.describe(unit))))


@dataclass(frozen=True)
class Ray:
    """Units on a Ray cluster, of which every machine sees the suite's folder under the same path.

    A worker that dies has its unit handed out again, which goes on from its last checkpoint. Choose it for several GPUs or
    machines; on one CPU it only adds its own start.
    """

    address: str | None = None
    """Of a running cluster ("auto", "ray://host:10001"); None starts one on this machine, which listens to no other."""
    workers: Annotated[int, Ge(1)] | None = None
    """Units at a time on a cluster of its own; None: as many as there are cores."""
    gpus: Annotated[float, Ge(0)] = 0.0
    """Of a GPU for each unit. 0.25 puts four units on one."""
    retries: Annotated[int, Ge(0)] = 3
    """How often a unit is handed out again after its worker died."""

    def __call__(self, units: Sequence[Unit], place: Place) -> Iterator[Outcome]:
        ray = self._connect()
        # One thread for each unit, for rows that do not depend on how many cores a machine has.
        environment = {"OMP_NUM_THREADS": "1"}
        if not self.address:  # a cluster of its own finds what this process finds
            environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        remote = ray.remote(work).options(num_cpus=1, num_gpus=self.gpus, max_retries=self.retries, runtime_env={"env_vars": environment})
        waiting = {remote.remote(place.describe(unit)): unit for unit in units}
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            unit = waiting.pop(ready)
            try:
                outcome = Outcome(**json.loads(ray.get(ready)))
            except ray.exceptions.RayError as error:
                outcome = failed(unit, place, ExpungeError(f"a unit's worker lives: {unit.name}: {str(error).splitlines()[0]}; run again"))
            yield outcome

    def _connect(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise ExpungeError(
                "the engine ray needs Ray: it is not installed; pip install 'expunge[ray]', or leave --engine out"
            ) from error
        if not ray.is_initialized():
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
            try:
                if self.address:
                    ray.init(self.address, **quiet)
                else:
                    ray.init(num_cpus=self.workers, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
            except (ConnectionError, RuntimeError, ValueError) as error:
                line = str(error).strip().splitlines()[0]
                raise ExpungeError(
                    f"a cluster answers at its address: {self.address or 'local'}: {line}; start it, or leave --address out"
                ) from error
        have = ray.cluster_resources()
        if self.gpus > have.get("GPU", 0):
            raise ExpungeError(
                f"a cluster has the GPUs that a unit asks for: {self.gpus:g} asked, {have.get('GPU', 0):g} there; lower --gpus-per-run"
            )
        return ray
