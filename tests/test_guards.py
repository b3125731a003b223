"""The tests' own guards do guard."""

import os
import socket
from pathlib import Path

import jaxtyping
import pytest
import torch

from expunge.diffusion.losses import squared_error
from expunge.diffusion.types import Cond
from expunge.storage.cache import Store
from expunge.storage.hashing import seed_of


@pytest.mark.parametrize("connect", ["connect", "connect_ex"])
def test_other_machines_are_out_of_reach(connect: str):
    with socket.socket() as sock:
        sock.settimeout(0.01)
        with pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1 is another"):
            getattr(sock, connect)(("192.0.2.1", 80))


def test_names_are_not_looked_up():
    with pytest.raises(pytest.fail.Exception, match=r"example\.org is another"):
        socket.create_connection(("example.org", 80), timeout=0.01)


def test_this_machine_is_within_reach():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5) as client:
        assert client.getpeername() == server.getsockname()


def test_shapes_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        Cond(torch.zeros(3, 4), ("a", "b", "c"))
    with pytest.raises(jaxtyping.TypeCheckError):
        squared_error(torch.zeros(3, 4), torch.zeros(3, 4))


def test_a_function_that_names_no_shape_is_as_it_was_written():
    assert hasattr(squared_error, "__wrapped__")
    assert not hasattr(seed_of, "__wrapped__")


def test_the_cache_is_not_the_users():
    assert Store.default().root == Path(os.environ["EXPUNGE_CACHE"])
    assert Path.home() / ".cache" not in Store.default().root.parents


def test_the_package_gives_functions_however_often_and_whatever_was_imported_before():
    """A submodule of the same name would take a function's place as soon as anything imports it."""
    import expunge
    import expunge.audits
    import expunge.evaluation
    import expunge.reports

    for _ in range(2):
        assert all(callable(f) for f in (expunge.unlearn, expunge.evaluate, expunge.report, expunge.load, expunge.merge))
