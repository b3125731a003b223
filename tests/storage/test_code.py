"""What a digest of code covers: everything that decides a number, and nothing that only words it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edited import copied, edit, forget

from expunge.storage import code
from expunge.storage.code import code_digest, modules_of

SOURCE = '''"""A module."""

from dataclasses import dataclass

@dataclass
class Thing:
    """A thing."""

    size: int = 3
    """How large it is."""

    def half(self) -> float:
        # by two
        if self.size < 0:
            raise ValueError(f"a size is positive: {self.size}")
        return self.size / 2
'''


@pytest.fixture
def digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The digest of a module outside the package with some source."""
    count = iter(range(100))

    def digest(source: str) -> str:
        name = f"thing_{next(count)}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setitem(sys.modules, name, type(sys)(name))
        sys.modules[name].__file__ = str(tmp_path / f"{name}.py")
        return code._read(name, tmp_path / f"{name}.py")[0]

    return digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another text."""'),
        ('"""A module."""', ""),
        ('    """A thing."""\n', ""),
        ('"""How large it is."""', '"""Its extent."""'),
        ("# by two", "# halved"),
        ("self.size / 2", "(self.size /\n            2)"),
        ("a size is positive", "no size is negative"),
        ('ValueError(f"a size is positive: {self.size}")', 'ValueError("no", self.size)'),
    ],
)
def test_words_and_layout_are_not_code(digested, old: str, new: str):
    assert old in SOURCE
    assert digested(SOURCE.replace(old, new)) == digested(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size: int = 3", "size: int = 4"),
        ("size: int = 3", "size: float = 3"),
        ("self.size / 2", "self.size // 2"),
        ("self.size / 2", "self.size / 2.0"),
        ("self.size < 0", "self.size <= 0"),
        ("self.size < 0", "not self.size"),
        ("ValueError", "KeyError"),
        ("@dataclass\n", "@dataclass(frozen=True)\n"),
        ("return self.size", "return -self.size"),
        ("def half(self)", "def half(self, /)"),
        ("def half(self)", "async def half(self)"),
    ],
)
def test_whatever_may_change_a_number_is_code(digested, old: str, new: str):
    assert old in SOURCE
    assert digested(SOURCE.replace(old, new)) != digested(SOURCE)


def test_trees_of_other_shapes_have_other_digests(digested):
    pairs = [("x = [[1], 2]", "x = [[1, 2]]"), ("f(a)(b)", "f(a, b)"), ("x = 1\nif x: y = 2", "x = 1\nif x: pass\ny = 2"), ("1", "True")]
    assert all(digested(one) != digested(other) for one, other in pairs)


@pytest.fixture
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from copied(tmp_path_factory, monkeypatch)


def methods() -> dict[str, str]:
    """The digests of a trained method's run and of a closed form's."""
    return {
        "mim-mu": code_digest("expunge.methods.mim_mu", "expunge.training"),
        "uce": code_digest("expunge.methods.uce", "expunge.training.edit_prompts"),
    }


@pytest.mark.parametrize(
    ("pattern", "changed"),
    [
        ("methods/uce.py", {"uce"}),
        ("methods/mim_mu.py", {"mim-mu"}),
        ("methods/_matching.py", {"mim-mu"}),  # which mim-mu is derived from
        ("methods/_critic.py", set()),  # which is f-DMU's
        ("methods/base.py", {"mim-mu", "uce"}),
        ("methods/config.py", set()),
        ("methods/__init__.py", set()),
        ("training/l*.py", {"mim-mu"}),  # a closed form is not trained
        ("training/edit_prompts.py", {"mim-mu", "uce"}),
        ("concepts/vocabulary.py", {"mim-mu", "uce"}),
        ("canvas/prompts.py", {"mim-mu", "uce"}),  # the words of a built-in vocabulary
        ("storage/hashing.py", {"mim-mu", "uce"}),  # seeds
        ("storage/files.py", set()),
        ("errors.py", set()),
        ("progress.py", set()),
        ("models/families.py", set()),
        ("reports/**/*.py", set()),
        ("cli/*.py", set()),
        ("evaluation/**/*.py", set()),
        ("attacks/*.py", set()),
        ("bench/*.py", set()),
    ],
)
def test_an_edit_changes_the_runs_that_it_may_change(package: Path, pattern: str, changed: set[str]):
    before, files = methods(), list(package.glob(pattern))
    assert files
    edit(*files)
    after = methods()
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_package_stands_for_all_its_modules(package: Path):
    before = code_digest("expunge.training")
    (package / "training" / "new.py").write_text("x = 1")
    forget()
    assert code_digest("expunge.training") != before


def test_of_a_module_alone_no_import_is_followed(package: Path):
    before = code_digest(alone=["expunge.methods.mim_mu"])
    edit(package / "methods" / "_matching.py")
    assert code_digest(alone=["expunge.methods.mim_mu"]) == before
    edit(package / "methods" / "mim_mu.py")
    assert code_digest(alone=["expunge.methods.mim_mu"]) != before


def test_a_name_that_no_module_has_is_an_error():
    """A room that is renamed must not leave the digest without it."""
    with pytest.raises(ModuleNotFoundError, match=r"expunge\.trainings"):
        code_digest("expunge.trainings")


def test_the_package_is_read_once_in_each_process(package: Path):
    """An edit during a long run is not the code that runs."""
    before = methods()
    (package / "methods" / "uce.py").write_text("x = 1")
    assert methods() == before


OUTSIDE = """
from dataclasses import dataclass
from expunge.methods import _saliency
from expunge.methods.esd import ESD
from .losses import weight

@dataclass(frozen=True)
class Mine(ESD):
    strength: float = weight
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The digest of a method in a package of one's own, which imports a module beside it."""
    folder = tmp_path / "mymethods"
    folder.mkdir()
    for name, text in (("__init__", ""), ("mine", OUTSIDE), ("losses", "weight = 1.0\n"), ("other", "x = 1\n")):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("", ".mine", ".losses", ".other"):
        monkeypatch.delitem(sys.modules, f"mymethods{name}", raising=False)
    import mymethods.mine
    import mymethods.other

    return lambda: code_digest(*modules_of(mymethods.mine.Mine))


@pytest.mark.parametrize(("name", "counts"), [("mine", True), ("losses", True), ("other", False)])
def test_of_a_method_of_ones_own_its_package_counts_as_far_as_it_is_imported(outside, tmp_path: Path, name: str, counts: bool):
    before = outside()
    edit(tmp_path / "mymethods" / f"{name}.py")
    assert (outside() != before) is counts


@pytest.mark.parametrize(("file", "counts"), [("esd.py", True), ("_saliency.py", True), ("base.py", True), ("uce.py", False)])
def test_of_a_method_of_ones_own_what_it_takes_from_here_counts_too(outside, package: Path, file: str, counts: bool):
    before = outside()
    edit(package / "methods" / file)
    assert (outside() != before) is counts


def test_modules_are_those_of_classes_functions_and_what_settings_name():
    from expunge.evaluation.early_stopping import Gone
    from expunge.methods.f_divergence import FDMU

    shared = {"expunge.methods._matching", "expunge.methods.base", "expunge.methods.f_divergence"}
    assert shared <= set(modules_of(FDMU()))
    assert modules_of(FDMU) == modules_of(FDMU())
    assert set(modules_of(Gone(), None)) == {"expunge.evaluation.early_stopping", "expunge.training.stopping"}
    assert modules_of(methods) == (__name__,)


def test_the_module_of_a_divergence_of_ones_own_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from expunge.methods.f_divergence import FDMU

    (tmp_path / "own_f.py").write_text("import torch\n\ndef f(r):\n    return r * torch.log(r)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(modules_of(FDMU(divergence="own_f:f"))) - set(modules_of(FDMU())) == {"own_f"}
