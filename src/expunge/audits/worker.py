"""An audit whose cells several processes share; `do` is what the others run (see `expunge.training.workers`)."""

from collections.abc import Iterator
from typing import Any

from expunge.audits.budget import make_budget
from expunge.audits.cells import Event
from expunge.audits.runner import Battery
from expunge.audits.setup import prepare
from expunge.errors import ExpungeError
from expunge.models.sampling import Sampler
from expunge.progress import Silent
from expunge.storage.files import write_json
from expunge.storage.hashing import digest
from expunge.training.workers import refuse_workers, started


def run(battery: Battery, workers: int = 1, address: str | None = None) -> Iterator[Event]:
    """The events of an audit whose cells several processes share. The cells of the others give no events here, but have their results.

    Args:
        battery: as `prepare` returns it.
        workers: processes, this one included. Each loads the model. On CUDA each takes the next device.
        address: of a Ray cluster that has the other processes; None: this machine has them.

    Raises:
        ExpungeError: rule "no-workers", "one-worker-on-a-cluster" or "model-in-memory"; the cluster cannot be reached.
    """
    refuse_workers(workers, battery.model, address)
    job = {"recipe": dict(battery.recipe), "cells": _cells(battery)}
    path = battery.session.cache.root / "claims" / f"{digest('job', job)}.json"
    with started(workers, battery.model.device, __name__, address) as others:
        if others is not None:
            write_json(path, job)
            others.send(str(path.resolve()))
        try:
            yield from battery.run()
        finally:
            path.unlink(missing_ok=True)


def do(job: dict[str, Any], device: str) -> int:
    """Does cells of a job until none is left, and returns for how many readings it sampled images.

    A cell that fails here is left to the process that started this one, which tries it again and reports its error.

    Raises:
        ExpungeError: rule "other-cells", this process would compute other results.
    """
    recipe = job["recipe"]
    budget = make_budget(recipe.pop("budget"), recipe.pop("name"), recipe["allow_code"])
    battery = prepare(budget=budget, **recipe | {"sampler": Sampler(**recipe["sampler"]), "device": device}, progress=Silent())
    if _cells(battery) != job["cells"]:
        raise ExpungeError(
            f"A worker on {device} would compute other results of {battery.model.name}.",
            rule="other-cells",
            value=device,
            hint="Try the same device, versions and files for all processes.",
        )
    return sum(not event.error for event in battery.run())


def _cells(battery: Battery) -> str:
    """A digest of the cells' ids, which cover everything that decides the results."""
    return digest("audit", [cell.id for cell in battery.cells])
