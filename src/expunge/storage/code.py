"""What source code says, as a digest: a result is named by the code that decides it.

Without it, a command that is repeated after an edit would return what the old code made.

The digest is of the syntax tree, not of the text. Comments, docstrings, layout and the words of errors decide no number, and a week
of results must not be invalid because a sentence was improved. What remains is every statement, literal and type of each module. The
tree is flattened here and not by `ast.dump`, whose form differs between versions of Python.
"""

import ast
import dataclasses
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from expunge import config
from expunge.storage.hashing import digest

PACKAGE = Path(__file__).parents[1]

DECIDES_NOTHING = frozenset(
    f"expunge.{name}"
    for name in (
        "__init__", "errors", "names", "config", "progress", "notebook", "storage.files", "storage.lock", "storage.cache", "storage.code",
        "models.__init__", "models.families", "methods.__init__", "methods.config", "attacks.__init__",
        "storage.places", "models.finite", "models.guard", "models.unusual", "runs", "audits", "bench", "reports", "cli",
    )
)  # fmt: skip
"""Modules and packages that are not followed: they check, name, store and show what others compute. Among them are the tables of all
methods, attacks and model families: a new entry leaves the results of the others valid."""


def code_digest(*roots: str, alone: Iterable[str] = ()) -> str:
    """A digest of the code of modules and of every module that they import, directly or through others.

    Imports of modules of this package are followed, but for those that decide no number (`DECIDES_NOTHING`), and of a module outside
    those of its own package. What has no source, such as a class that was typed into an interpreter, is left out.

    Args:
        roots: names of modules, or of packages, which stand for all modules in them.
        alone: names of further modules whose imports are not followed.

    Raises:
        ModuleNotFoundError: this package has no such module.
    """
    alone = tuple(alone)
    return _own_digest(roots, alone) if all(map(_is_own, roots + alone)) else _digest(roots, alone)


def _digest(roots: tuple[str, ...], alone: tuple[str, ...]) -> str:
    found: dict[str, str] = {}
    left = [module for root in roots for module in _modules(root)]
    while left:
        name, file = left.pop()
        if name not in found:
            found[name], imported = _read(name, file)
            own = ("expunge.", f"{_package(name)}.")
            near = [module for other in imported if f"{other}.".startswith(own) for module in _module(other)]
            left += [module for module in near if not _decides_nothing(module[0])]
    for name, file in (module for one in alone for module in _modules(one)):
        found[name] = _read(name, file)[0]
    return digest(sorted(found.items()))


_own_digest = cache(_digest)
"""Of modules of this package, which import no others that are followed."""


def modules_of(*parts: object) -> tuple[str, ...]:
    """The modules that methods, attacks, models or rules come from, as roots of `code_digest`.

    Each part is an object, a class or a function. Of a class, those of this package that it is derived from count too; of settings,
    the modules that they name (`config.NamesCode`).
    """
    found = set[str]()
    for part in (part for part in parts if part is not None):
        kind = part if hasattr(part, "__qualname__") else type(part)
        found |= {kind.__module__} | {base.__module__ for base in getattr(kind, "__mro__", ()) if base.__module__.startswith("expunge.")}
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            found |= {name.partition(":")[0] for name in config.code_named(type(part), config.settings(part))}
    return tuple(sorted(found))


@cache
def _decides_nothing(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in DECIDES_NOTHING for count in range(2, len(parts) + 1))


def _modules(root: str) -> list[tuple[str, Path]]:
    """The modules of a root, with their files."""
    folder = PACKAGE.joinpath(*root.split(".")[1:])
    if _is_own(root) and folder.is_dir():
        files = sorted(folder.rglob("*.py"))
        return [(".".join(("expunge", *file.relative_to(PACKAGE).with_suffix("").parts)), file) for file in files]
    found = _module(root)
    if _is_own(root) and not found:
        raise ModuleNotFoundError(f"No module named {root!r}", name=root)
    return found


def _module(name: str) -> list[tuple[str, Path]]:
    """A module with its file, or nothing where it has no source. A package goes by the name of its `__init__`."""
    if _is_own(name):
        return _own_module(name)
    file = Path(getattr(sys.modules.get(name), "__file__", None) or "")
    return [(name, file)] if file.suffix == ".py" and file.is_file() else []


@cache
def _own_module(name: str) -> list[tuple[str, Path]]:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    candidates = (name, path.with_suffix(".py")), (f"{name}.__init__", path / "__init__.py")
    return [(known, file) for known, file in candidates if file.is_file()]


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == "expunge"


def _package(name: str) -> str:
    """The package that a module is in."""
    return name.rpartition(".")[0] if _is_own(name) else getattr(sys.modules.get(name), "__package__", None) or ""


def _read(name: str, file: Path) -> tuple[str, frozenset[str]]:
    """The digest of a module's code, and the names of what it may import.

    A file of this package is read once in each process, as its module is: an edit during a long run is not the code that runs. Others
    are read anew where they changed, since a notebook loads them again.
    """
    stamp = () if _is_own(name) else (file.stat().st_mtime_ns, file.stat().st_size)
    return _parsed(file, _package(name), stamp)


@cache
def _parsed(file: Path, package: str, stamp: tuple[int, ...]) -> tuple[str, frozenset[str]]:
    return _said(file.read_bytes(), package)


def _said(source: bytes, package: str) -> tuple[str, frozenset[str]]:
    tokens, imports = list[str](), list[ast.Import | ast.ImportFrom]()
    _flatten(ast.parse(source), tokens, imports)
    digested = hashlib.sha256("\0".join(tokens).encode(errors="surrogatepass")).hexdigest()
    return digested, frozenset(_imported(imports, package.split(".")))


def _flatten(node: ast.AST, tokens: list[str], imports: list[ast.Import | ast.ImportFrom]) -> None:
    """Writes a tree as a row of tokens, the types of its nodes and what their fields hold, and lists its imports."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        imports.append(node)
    elif isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return  # a docstring
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        node = ast.Raise(node.exc.func)  # the type, which is caught somewhere, but not the words
    kind: Any = type(node)
    tokens.append(kind.__name__)
    for field in _fields(kind):
        value = getattr(node, field, None)
        if isinstance(value, ast.AST):
            tokens.append(field)
            _flatten(value, tokens, imports)
        elif isinstance(value, list):
            tokens.append(field)
            for part in value:
                if isinstance(part, ast.AST):
                    _flatten(part, tokens, imports)
                else:
                    tokens.append(repr(part))
        elif value is not None:
            tokens += (field, repr(value))
    tokens.append(")")


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    """Without `ctx`, which follows from the place, `kind`, the `u` before a text, and what versions of Python differ in."""
    return tuple(field for field in kind._fields if field not in ("ctx", "kind", "type_comment", "type_ignores", "type_params"))


def _imported(imports: Iterable[ast.Import | ast.ImportFrom], package: list[str]) -> Iterator[str]:
    """Everything that may be a module among what a module of `package` imports."""
    for node in imports:
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.Import):
            yield from names
        else:
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{name}" for name in names))
