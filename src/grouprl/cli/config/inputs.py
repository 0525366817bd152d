"""What a run depends on beside its options: digests of the package's own files and of the files that options name.

A user's code is followed through its imports, without importing anything. Code and data that it opens by itself are
not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

import grouprl

_FOLDERS = ("path", "name", "data_dir", "heldout_path")
"""Options whose value may be a folder that is read."""
_NO_INPUTS = ("study", "resume", "accept_changed")
_INSTALLED = ("site-packages", "dist-packages")
_DIGITS = 16


@functools.cache
def package_digest() -> str:
    """Digest of the package's code and data, wherever it is installed. Configurations are hashed as options."""
    root = Path(grouprl.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        name = file.relative_to(root)
        if name.parts[0] not in ("conf", "experiments") and "__pycache__" not in name.parts:
            digest.update(f"{name.as_posix()} {_digest(file)}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def input_digests(config: DictConfig) -> dict[str, str]:
    """Digest of each file that a configuration names, by a name that is the same on every machine.

    Args:
        config: The composed options.

    Returns:
        Data files, the files of model and data folders, and the user's own code with what it imports of the user's.
    """
    found: dict[str, Path] = {}
    for key, value in _texts(config):
        for file, name in (*_files(key, value), *_code(key, value)):
            names = itertools.chain([name, f"{key}/{name}"], (f"{key}/{n}/{name}" for n in itertools.count(2)))
            found[next(n for n in names if found.get(n, file).resolve() == file.resolve())] = file
    return {name: _digest(file)[:_DIGITS] for name, file in sorted(found.items())}


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Options that are texts, with the last part of their names."""
    if isinstance(node, DictConfig):
        for name in node:
            if str(name) not in _NO_INPUTS:
                yield from _texts(node[name], str(name))
    elif isinstance(node, ListConfig):
        for item in node:
            yield from _texts(item, key)
    elif isinstance(node, str) and node:
        yield key, node


def _files(key: str, value: str) -> Iterator[tuple[Path, str]]:
    path = os.path.expanduser(value)
    if os.path.isfile(path) and (key in _FOLDERS or "." in value or os.sep in value):  # and no word like auto
        yield Path(path), Path(path).name
    elif key in _FOLDERS and os.path.isdir(path):
        folder = Path(path).resolve()
        for file in sorted(_within(folder)):
            name = file.relative_to(folder)
            hidden = any(part.startswith(".") for part in name.parts)
            if not hidden and file.suffix != ".md":
                yield file, f"{folder.name}/{name.as_posix()}"


def _within(folder: Path) -> Iterator[Path]:
    """Files of a folder and of those in it, linked ones too, each folder once."""
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in files if Path(place, name).is_file())


def _code(key: str, value: str) -> Iterator[tuple[Path, str]]:
    """The user's own code that a value names as ``package.module.name`` or ``path/to/file.py:name``."""
    if ".py:" in value and os.path.isfile(value.rpartition(":")[0]):
        start = [Path(value.rpartition(":")[0])]
    elif key == "_target_" and not value.startswith("grouprl."):
        start = _own_files(value.rpartition(".")[0])
    else:
        start = []
    seen: dict[Path, None] = {}
    while start:
        file = start.pop()
        if file.resolve() not in seen:
            seen[file.resolve()] = None
            start += [other for module in _imports(file) for other in _own_files(module)]
            start += _relative_imports(file)
    for file in seen:
        yield file, _module_name(file)


def _own_files(module: str) -> list[Path]:
    """Files of a module that is the user's own: the whole package where it is in one, else nothing but the module."""
    top, *rest = module.split(".")
    if not top or top == "grouprl" or top in sys.builtin_module_names:
        return []
    spec = PathFinder.find_spec(top, [os.getcwd(), *sys.path])
    if spec is None:
        return []
    if spec.origin is not None and spec.submodule_search_locations is None:
        return [Path(spec.origin)] if _is_own(Path(spec.origin)) else []
    places = [Path(place) for place in spec.submodule_search_locations or () if _is_own(Path(place))]
    if spec.origin is not None:
        return [file for place in places for file in sorted(place.rglob("*.py"))]
    return [file for place in places for file in _below(place, rest)]


def _below(folder: Path, names: Sequence[str]) -> list[Path]:
    """Files of a module by its name within a folder that has no ``__init__.py``."""
    for name in names:
        if (folder / f"{name}.py").is_file():
            return [folder / f"{name}.py"]
        folder = folder / name
        if (folder / "__init__.py").is_file():
            return sorted(folder.rglob("*.py"))
    return []


def _is_own(path: Path) -> bool:
    parts = path.resolve().parts
    libraries = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")}
    return not set(_INSTALLED) & set(parts) and not libraries & set(path.resolve().parents)


def _imports(file: Path) -> Iterator[str]:
    """Modules that a file imports by their whole names."""
    for node in _nodes(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _relative_imports(file: Path) -> Iterator[Path]:
    """Files that a file imports by where they lie beside it."""
    for node in _nodes(file):
        if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(file.resolve().parents):
            folder, names = (
                file.resolve().parents[node.level - 1],
                (node.module or "").split(".") if node.module else [],
            )
            yield from _below(folder, names)
            for alias in node.names:
                yield from _below(folder, [*names, alias.name])


def _nodes(file: Path) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError, OSError):
        return


def _module_name(file: Path) -> str:
    """A file's name with those of the packages it is in."""
    folder, name = file.parent, file.name
    while (folder / "__init__.py").is_file():
        folder, name = folder.parent, f"{folder.name}/{name}"
    return name


def _digest(file: Path) -> str:
    try:
        stat = file.stat()
        return _digest_of(file.resolve(), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    except OSError:
        return "unreadable"  # whoever reads it says so


@functools.lru_cache(maxsize=4096)
def _digest_of(path: Path, *_: int) -> str:
    """Digest of a file's content, taken once as long as nothing touches the file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
