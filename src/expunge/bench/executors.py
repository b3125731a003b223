"""Where units are done: in this process, one after another, or on a Ray cluster. Both exchange JSON text."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from annotated_types import Ge

from expunge.bench.results import Outcome
from expunge.bench.runner import Place, record_failure, work
from expunge.bench.suite import Unit
from expunge.errors import ExpungeError
from expunge.training.cluster import connected, import_path


class Engine(Protocol):
    """Does units, in any order, and yields the outcome of each when it ends."""

    def __call__(self, units: Sequence[Unit], place: Place) -> Iterator[Outcome]: ...


@dataclass(frozen=True)
class Serial:
    """Does units one after another in this process."""

    def __call__(self, units: Sequence[Unit], place: Place) -> Iterator[Outcome]:
        for unit in units:
            yield Outcome(**json.loads(work(place.describe(unit))))


@dataclass(frozen=True)
class Ray:
    """Does units on a Ray cluster whose machines all see the suite's folder at the same path.

    If a worker dies, its unit is scheduled again and resumes from its last checkpoint. Choose it for several GPUs or machines; on one CPU
    it only adds its start-up time.
    """

    address: str | None = None
    """The address of a running cluster ("auto", "ray://host:10001"); None starts a local one, which accepts no other connections."""
    workers: Annotated[int, Ge(1)] | None = None
    """Units at a time on a local cluster; None: as many as there are cores."""
    gpus: Annotated[float, Ge(0)] = 0.0
    """The share of a GPU for each unit. 0.25 puts four units on one GPU."""
    retries: Annotated[int, Ge(0)] = 3
    """How often a unit is scheduled again after its worker died."""

    def __call__(self, units: Sequence[Unit], place: Place) -> Iterator[Outcome]:
        ray = self._connect()
        # One thread for each unit, so that rows do not depend on the number of cores.
        environment = {"OMP_NUM_THREADS": "1"} | ({} if self.address else import_path())
        remote = ray.remote(work).options(num_cpus=1, num_gpus=self.gpus, max_retries=self.retries, runtime_env={"env_vars": environment})
        waiting = {remote.remote(place.describe(unit)): unit for unit in units}
        while waiting:
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            unit = waiting.pop(ready)
            try:
                outcome = Outcome(**json.loads(ray.get(ready)))
            except ray.exceptions.RayError as error:
                outcome = record_failure(unit, place, _worker_died(unit, error))
            yield outcome

    def _connect(self) -> Any:
        ray = connected(self.address, self.workers)
        have = ray.cluster_resources()
        if self.gpus > have.get("GPU", 0):
            raise ExpungeError(
                f"Each unit needs {self.gpus:g} of a GPU, but the cluster has {have.get('GPU', 0):g} GPUs.",
                rule="too-few-gpus",
                value=self.gpus,
                hint="Try a lower --gpus-per-run.",
            )
        return ray


def _worker_died(unit: Unit, error: Exception) -> ExpungeError:
    line = str(error).splitlines()[0]
    return ExpungeError(f"The worker of {unit.name} died: {line}.", rule="worker-died", value=unit.name, hint="Try to run the suite again.")
