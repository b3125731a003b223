"""The peak of memory that a card records, on any system."""

import sys

import psutil
import pytest
import torch

from expunge.runs.card import peak_memory


def test_it_is_the_most_that_the_process_has_held():
    before = peak_memory(torch.device("cpu"))
    freed = before - psutil.Process().memory_info().rss  # by tests before this one
    held = torch.ones((max(0, freed) + 2**28) // 4)  # 256 MiB more than ever
    during = peak_memory(torch.device("cpu"))
    del held
    assert during >= before + 2**27
    assert peak_memory(torch.device("cpu")) >= during
    assert during >= psutil.Process().memory_info().rss // 2


def test_a_system_without_resource_tells_it_too(monkeypatch: pytest.MonkeyPatch):
    """Windows, whose own count psutil reads."""
    monkeypatch.setitem(sys.modules, "resource", None)
    told = type("Info", (), {"peak_wset": 12345})()
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: told)
    assert peak_memory(torch.device("cpu")) == 12345
