"""What every test runs under: no network, shapes and types checked at run time, a cache of its own, one thread, fixed seeds."""

import os

# Before anything that reads them is imported.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "EXPUNGE_PROGRESS": "off",
    "TRANSFORMERS_VERBOSITY": "error",  # at import it says what it could do with more packages
}
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("COLUMNS", None)  # a terminal's width, which workers of xdist inherit

import gc
import ipaddress
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import checked
import jaxtyping
import pytest

# Every signature that names shapes is checked at each call: `Float[Tensor, "b c h w"]` is a promise, in tests it is kept.
jaxtyping.jaxtyped = checked.where_promised
jaxtyping.install_import_hook("expunge", "checked.checked")


def _leaves_the_machine(host: object) -> bool:
    """Whether a host of a socket address is anything but this machine; names other than localhost would be looked up elsewhere."""
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    try:
        return not ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return name != "localhost"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reaches for the network fails, also where the exception would be caught and tried again."""
    internet = (socket.AF_INET, socket.AF_INET6)
    connects = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    getaddrinfo = socket.getaddrinfo

    def stay(host: object) -> None:
        if _leaves_the_machine(host):
            pytest.fail(f"tests stay on this machine: {host} is another")

    def guarded(name: str):
        def connect(self: socket.socket, address):
            if self.family in internet:
                stay(address[0])
            return connects[name](self, address)

        return connect

    def lookup(host, *arguments, **keywords):
        stay(host)
        return getaddrinfo(host, *arguments, **keywords)

    for name in connects:
        monkeypatch.setattr(socket.socket, name, guarded(name))
    monkeypatch.setattr(socket, "getaddrinfo", lookup)


# Fixtures import what they need: where tests run side by side, the process that hands them out reads this file and runs none.


@pytest.fixture(scope="session", autouse=True)
def hastened() -> None:
    import tiny

    tiny.hasten()
    gc.freeze()  # what was imported stays: a tenth of the time went into looking through it for garbage


@pytest.fixture(scope="session", autouse=True)
def as_if_idle() -> Iterator[None]:
    """Prices do not depend on what else the machine does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("expunge.models.speed._is_busy", lambda: False)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` keeps a stack trace for each accelerator that is not there


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One content-addressed store for the whole session, never the user's; programs that tests start inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_CACHE", str(folder))
        yield folder
