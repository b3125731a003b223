"""`expunge studio` from the command line; tests/web drives the page itself."""

import importlib.util
import socket

import pytest
from cli.commandline import say


@pytest.fixture
def bound(monkeypatch) -> list[tuple[str, int]]:
    """The addresses that the studio would have served. A process has one server of NiceGUI, which is that of tests/web."""
    found: list[tuple[str, int]] = []

    class Server:
        def __init__(self, *_: object): ...

        def run(self, sockets: list[socket.socket]) -> None:
            found.extend(s.getsockname() for s in sockets)
            raise KeyboardInterrupt  # which ends it

    monkeypatch.setattr("expunge.web.server.new_server", Server)
    return found


def test_it_listens_on_this_machine_alone(run, bound):
    said = say("studio", run, "--port", 0, "--device", "cpu")
    assert said.code == 0, said.err
    [(host, port)] = bound
    assert host == "127.0.0.1"
    assert f"http://127.0.0.1:{port} " in said.out
    assert "Everybody" not in said.out


def test_another_address_is_warned_of(run, bound):
    assert "Everybody who can reach this address" in say("studio", run, "--host", "0.0.0.0", "--port", 0, "--device", "cpu").out
    assert [host for host, _ in bound] == ["0.0.0.0"]


def test_mistakes(run, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = say("studio", run, "--port", port).refusal
        assert (refused.rule, refused.value) == ("address-in-use", f"127.0.0.1:{port}")
    assert say("studio", tmp_path).refusal.rule == "no-run"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert say("studio", run).refusal.rule == "missing-package"
