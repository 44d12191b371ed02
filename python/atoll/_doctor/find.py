"""Which distributions are installed, and which extension modules are in them."""

from __future__ import annotations

import importlib.metadata as metadata
import mmap
import os
import re
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Parts of a dotted name that say: only for testing it, or for measuring it.
_TEST = re.compile(r"(^|_)(c?tests?|bench|benchmarks?)(_|$)")

# Top-level names that many distributions install by mistake.
_STRAY = {"benchmarks", "conftest", "docs", "examples", "setup", "test", "tests"}


class UnknownPackageError(LookupError):
    """Nothing that is installed has this name."""


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension module of a distribution."""

    name: str
    file: str
    test: bool  # it is there for tests or benchmarks


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution."""

    name: str
    version: str
    imports: tuple[str, ...]  # top-level names
    extensions: tuple[Extension, ...]


def normal(name: str) -> str:
    """A distribution's name (str) as PEP 503 compares it (str)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find(names: Iterable[str] | None) -> list[Package]:
    """The packages to look at, sorted by name.

    Args:
      names (iterable of str, or None): distributions or names to import; None
        stands for all that have extension modules, but for atoll itself.

    Raises UnknownPackageError, with close matches, for a name of neither kind.
    """
    installed = _installed()
    if names is None:
        found = [package(dist) for key, dist in installed.items() if key != "atoll"]
        return [each for each in found if each.extensions]
    wanted: dict[str, Package] = {}
    by_import: dict[str, set[str]] | None = None
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a package is named by a str, not {type(name).__name__}")
        keys = {normal(name)} & installed.keys()
        if not keys:
            if by_import is None:
                by_import = _by_import(installed)
            keys = by_import.get(name, set())
        if not keys:
            raise UnknownPackageError(_unknown(name, installed, by_import or {}))
        for key in keys:
            wanted[key] = package(installed[key])
    return [wanted[key] for key in sorted(wanted)]


def package(dist: metadata.Distribution) -> Package:
    """What there is to know about a distribution."""
    extensions: dict[str, Extension] = {}
    imports: set[str] = set()
    for parts, path in _files(dist):
        top = parts[0].partition(".")[0] if len(parts) == 1 else parts[0]
        name = _module_name(parts)
        if name is not None:
            if name in extensions or not _has_init(path, name):
                continue
            test = any(_TEST.search(part) for part in name.split(".")[1:])
            extensions[name] = Extension(name, path, test)
        elif not parts[-1].endswith(".py"):
            continue
        if top.isidentifier() and top not in _STRAY:
            imports.add(top)
    return Package(
        dist.metadata["Name"],
        dist.version,
        tuple(sorted(imports)),
        tuple(extensions[name] for name in sorted(extensions)),
    )


def _installed() -> dict[str, metadata.Distribution]:
    """By normal name; what comes first on sys.path hides what comes later."""
    found: dict[str, metadata.Distribution] = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"]  # None: a folder that pip left behind
        if name:
            found.setdefault(normal(name), dist)
    return dict(sorted(found.items()))


def _files(dist: metadata.Distribution) -> Iterator[tuple[tuple[str, ...], str]]:
    """Its files in folders of modules: parts of the relative path, and the path."""
    if dist.files is not None:
        for file in dist.files:
            # Scripts are at ../../../bin, and data may be anywhere.
            if file.parts[0] != ".." and not file.is_absolute():
                yield file.parts, str(dist.locate_file(file))
        return
    # A distribution's own packager may leave the list of files out.
    base = str(dist.locate_file(""))
    for top in (dist.read_text("top_level.txt") or "").split():
        for suffix in (".py", *EXTENSION_SUFFIXES):
            if os.path.isfile(path := os.path.join(base, top + suffix)):
                yield (top + suffix,), path
        for folder, _, names in os.walk(os.path.join(base, top)):
            parts = os.path.relpath(folder, base).split(os.sep)
            for name in names:
                yield (*parts, name), os.path.join(folder, name)


def _module_name(parts: tuple[str, ...]) -> str | None:
    """The dotted name of an extension module's file; None: it is none."""
    *folders, last = parts
    for suffix in EXTENSION_SUFFIXES:  # ".so" is the last of them
        if last.endswith(suffix):
            names = [*folders, last.removesuffix(suffix)]
            return ".".join(names) if all(map(str.isidentifier, names)) else None
    return None


def _has_init(path: str, name: str) -> bool:
    """Is it a module, and not a library that somebody loads through ctypes?"""
    last = name.rpartition(".")[2]
    if not last.isascii():
        return True  # the function's name is in punycode
    try:
        with open(path, "rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return any(
                    data.find(prefix + last.encode() + b"\0") >= 0
                    for prefix in (b"PyInit_", b"PyModExport_")
                )
    except (OSError, ValueError):
        return False  # it is gone, or empty


def _by_import(installed: dict[str, metadata.Distribution]) -> dict[str, set[str]]:
    """From names to import to normal names of distributions."""
    found: dict[str, set[str]] = {}
    for top, names in metadata.packages_distributions().items():
        keys = {normal(name) for name in names} & installed.keys()
        if keys:
            found[top] = keys
    return found


def _unknown(
    name: str, installed: Iterable[str], by_import: Iterable[str]
) -> str:
    from difflib import get_close_matches

    if name.partition(".")[0] in sys.stdlib_module_names:
        return f"{name!r} belongs to Python itself, whose own modules need no private copy"
    text = f"no installed distribution or module has the name {name!r}"
    names = {normal(each): each for each in by_import} | {each: each for each in installed}
    close = get_close_matches(normal(name), names, n=3, cutoff=0.6)
    if close:
        text += "; did you mean " + " or ".join(repr(names[each]) for each in close) + "?"
    return text
