"""A pipeline, a vocabulary and a run so small that a command takes a moment."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from cli.commandline import WORDS, Said, say
from diffusers.utils import logging


@pytest.fixture(scope="session", autouse=True)
def without_bars_of_others() -> None:
    """Diffusers reads the environment that tells it so when it is imported, which other tests may have done before."""
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny.pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary file."""
    file = tmp_path_factory.mktemp("words") / "words.toml"
    file.write_text(WORDS)
    return file


@pytest.fixture(scope="session")
def unlearn(model: Path, words: Path) -> Callable[..., Said]:
    """`expunge unlearn` with a small model, vocabulary and training; later arguments have their way."""

    def run(*arguments: object, method: str = "mim-mu") -> Said:
        small = () if method == "uce" else ("--steps", 2, "--batch-size", 4, "--points", 6, "--pictures", 2)
        return say("unlearn", method, "--model", model, "--vocabulary", words, *small, "--device", "cpu", *arguments)

    return run


@pytest.fixture(scope="session")
def run(unlearn: Callable[..., Said], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("runs") / "neon"
    said = unlearn("--target", "neon style", "--out", folder)
    assert said.code == 0, said.err
    return folder
