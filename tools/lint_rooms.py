"""The rules of the rooms in ext/, which tools/rooms.toml states: used by lint_c.py.

Each check takes the root of a tree and calls `fault(path, line, text)` for what is wrong.
"""

import os
import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

Fault = Callable[[Path, int, str], None]

TABLE = Path("tools/rooms.toml")
OWN_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.M)
PUBLIC = ("atoll/",)  # the core's headers
# A declaration of a function at the left margin, in a .c file: it ends with `);`.
PROTOTYPE = re.compile(
    r"^(?!typedef|static_assert|static\b|return|PyDoc_STRVAR|extern\s+\w+\s+_Py)"
    r"(?:extern\s+)?[A-Za-z_][\w \t*]*?[\s*]+(\w+)\([^;{}()]*(?:\([^()]*\)[^;{}()]*)*\);",
    re.M,
)
# Structs, fields and headers that are CPython's own business.
PRIVATE = re.compile(
    r"\b(?:_Py\w*|Py_BUILD_CORE\w*|PyASCIIObject|PyCompactUnicodeObject|PyDictObject"
    r"|PyByteArrayObject|ma_keys|ma_values|ob_shash|long_value|lv_tag|ob_refcnt\w*"
    r"|ob_start|ob_alloc|ob_exports|opcode_ids)\b"
)


class House:
    """What rooms.toml says."""

    def __init__(self, root: Path) -> None:
        data = tomllib.loads((root / TABLE).read_text(encoding="utf-8"))
        self.limits: dict[str, int] = data["limits"]
        self.rooms: dict[str, dict] = data["rooms"]

    def may_use(self, room: str, other: str) -> bool:
        return other in (room, "base") or other in self.rooms[room]["uses"]

    def is_door(self, room: str, header: str) -> bool:
        return header in self.rooms[room]["doors"]


def room_of(path: Path) -> str:
    """The room of a file: the folder of ext/ that it is in, or below; "" for none."""
    parts = path.parts
    return parts[1] if len(parts) > 2 else ""


def check_table(house: House, fault: Fault) -> None:
    """Rooms use rooms that are there, on lower floors: so there is no circle."""
    for name, room in house.rooms.items():
        for other in room["uses"]:
            if other not in house.rooms:
                fault(TABLE, 1, f"{name} uses {other}, which is no room")
            elif house.rooms[other]["floor"] >= room["floor"]:
                fault(TABLE, 1, f"{name} uses {other}, which is not on a lower floor")


def check_files(root: Path, house: House, fault: Fault) -> None:
    """Every file is in a room; no folder has more of them than one can see."""
    counts: dict[Path, int] = defaultdict(int)
    for file in sorted((root / "ext").rglob("*")):
        path = file.relative_to(root)
        if not file.is_file() or path.name == "meson.build" or "__pycache__" in path.parts:
            continue
        counts[path.parent] += 1
        if room_of(path) not in house.rooms:
            fault(path, 1, "it is in no room that tools/rooms.toml lists")
    for name, room in house.rooms.items():
        for door in room["doors"]:
            if not (root / "ext" / name / door).is_file():
                fault(TABLE, 1, f"the door {name}/{door} is not there")
    for folder, count in counts.items():
        if count > house.limits["files"]:
            fault(folder, 1, f"{count} files: more than {house.limits['files']} in a folder")


def check_includes(root: Path, house: House, path: Path, text: str, fault: Fault) -> None:
    """A header of another room is one of the doors of a room that may be used."""
    room = room_of(path)
    if room not in house.rooms:
        return
    for match in OWN_INCLUDE.finditer(text):
        name = match[1]
        line = text.count("\n", 0, match.start()) + 1
        if name.startswith(PUBLIC):
            continue
        other, _, header = name.partition("/")
        if not (root / "ext" / name).is_file() or other not in house.rooms:
            fault(path, line, f'#include "{name}": no header of a room')
        elif not house.may_use(room, other):
            fault(path, line, f'#include "{name}": {room} may not use {other}')
        elif other != room and not house.is_door(other, header):
            fault(path, line, f'#include "{name}": no door of {other}')


def check_code(path: Path, code: str, fault: Fault) -> None:
    """`code` has neither comments nor literals."""
    if path.suffix == ".c":
        for match in PROTOTYPE.finditer(code):
            line = code.count("\n", 0, match.start()) + 1
            fault(path, line, f"{match[1]}: a prototype in a .c file; include its header")
    if room_of(path) != "cpython":
        for match in PRIVATE.finditer(code):
            line = code.count("\n", 0, match.start()) + 1
            fault(path, line, f"{match.group()}: CPython's own business, only in ext/cpython/")


# ------------------------------------------------------------------ linked objects


def object_name(source: Path) -> str:
    """The name that Meson gives to the object of a source, relative to its folder."""
    return source.as_posix().replace("/", "_") + ".o"


def read_symbols(folder: Path, names: Iterable[str]) -> dict[str, tuple[set[str], set[str]]]:
    """Of each object in `folder`: the symbols it defines for others, and those it needs."""
    found = {}
    for name in names:
        done = subprocess.run(
            ["nm", "--format=posix", str(folder / name)],
            capture_output=True,
            text=True,
            check=True,
        )
        defined, needed = set(), set()
        for line in done.stdout.splitlines():
            symbol, kind, *_ = line.split()
            if kind == "U":
                needed.add(symbol)
            elif kind in "TDBRCVW":
                defined.add(symbol)
        found[name] = defined, needed
    return found


def sources_of(root: Path, folder: str) -> dict[str, Path]:
    """The name of the object of each C file: its path, relative to the root."""
    base = root / folder
    return {
        object_name(file.relative_to(base)): file.relative_to(root)
        for file in sorted(base.rglob("*.c"))
    }


def find_objects(root: Path) -> Path | None:
    """The newest build of the extension whose objects are younger than their sources."""
    names = sources_of(root, "ext")
    build = Path(os.environ.get("BUILD", root / "build"))
    for folder in sorted(build.glob("ext-3.*/ext/_core.*.p"), reverse=True):
        if not out_of_date(root, folder, names):
            return folder
    return None


def out_of_date(root: Path, folder: Path, names: dict[str, Path]) -> str:
    """Which object is missing, or older than its source; "" if none is."""
    for name, source in names.items():
        file = folder / name
        if not file.is_file() or file.stat().st_mtime < (root / source).stat().st_mtime:
            return name
    return ""


def calls_of(root: Path, folder: Path, where: str) -> dict[Path, dict[Path, set[str]]]:
    """Which file needs which symbols of which other file."""
    names = sources_of(root, where)
    symbols = read_symbols(folder, names)
    owner = {s: names[name] for name, (defined, _) in symbols.items() for s in defined}
    calls: dict[Path, dict[Path, set[str]]] = {path: {} for path in names.values()}
    for name, (_, needed) in symbols.items():
        for symbol in needed & set(owner):
            if owner[symbol] != names[name]:
                calls[names[name]].setdefault(owner[symbol], set()).add(symbol)
    return calls


def circles(calls: dict[Path, dict[Path, set[str]]]) -> list[list[Path]]:
    """The sets of files that all lead to each other (Tarjan 1972)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    found = []

    def visit(file: Path) -> None:
        index[file] = low[file] = len(index)
        stack.append(file)
        for other in calls.get(file, ()):
            if other not in index:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], index[other])
        if low[file] == index[file]:
            at = stack.index(file)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for file in sorted(calls):
        if file not in index:
            visit(file)
    return found


def check_calls(root: Path, house: House, folder: Path, fault: Fault) -> str:
    """A symbol of another room is one of a room that may be used. Says what it saw."""
    calls = calls_of(root, folder, "ext")
    for file, others in calls.items():
        room = room_of(file)
        for other, symbols in others.items():
            used = room_of(other)
            if room in house.rooms and used and not house.may_use(room, used):
                names = ", ".join(sorted(symbols))
                fault(file, 1, f"needs {names} of {other}: {room} may not use {used}")
    largest = 0
    crossing = 0
    for circle in circles(calls):
        rooms = {room_of(file) for file in circle}
        crossing += len(rooms) > 1
        largest = max(largest, len(circle))
        if len(rooms) > 1 or len(circle) > house.limits["circle"]:
            text = ", ".join(str(file.relative_to("ext")) for file in circle)
            fault(circle[0], 1, f"a circle of {len(circle)} files: {text}")
    return f"{crossing} circles across rooms, the largest inside one has {largest} files"


def check_core_calls(root: Path, folder: Path, fault: Fault) -> None:
    """No circle among the files of the core."""
    for circle in circles(calls_of(root, folder, "core")):
        text = ", ".join(file.name for file in circle)
        fault(circle[0], 1, f"a circle of {len(circle)} files: {text}")
