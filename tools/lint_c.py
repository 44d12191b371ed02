#!/usr/bin/env python3
"""Check the rules that the compiler does not: layers, rooms, atomics, sleeps, sizes.

    python tools/lint_c.py [--listed] [--objects DIR] [ROOT]

Prints one line for each fault, as file:line: text, and exits 1 if there was
one. CONTRIBUTING.md says what the layers are, tools/rooms.toml what the rooms are.
What the rooms call is read from the objects of the extension in DIR, a folder of
Meson's; without --objects from a build in build/, if there is one that is up to date.
With --listed it checks only that the build knows every source file, which takes no
time.
"""

import argparse
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also with -I
import lint_rooms

MAX_LINES = 800
# bench/ is not held to these rules: it measures what lies beneath atoll too.
C_DIRS = ("core", "ext", "tests/c")
C_SUFFIXES = {".c", ".h"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
# Comments and literals, so that neither can break or hide from a rule.
NOISE = re.compile(
    r"""/\*.*?\*/ | //(?:[^\n\\]|\\.)* | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'""",
    re.S | re.X,
)

PUBLIC_HEADERS = {
    f"atoll/{name}.h" for name in ("atoll", "elf", "sync", "table", "timer", "trace")
}
ATOMIC_HEADERS = {"stdatomic.h"}
ATOMIC_WORDS = re.compile(
    r"\b(?:__atomic_\w+|__sync_\w+|_Atomic|atomic_(?:load|store|exchange|fetch_\w+"
    r"|compare_exchange_\w+|thread_fence|init|flag\w*)\w*)\b"
)
PORT_HEADERS = {
    "pthread.h",
    "threads.h",
    "semaphore.h",
    "linux/futex.h",
    "sys/syscall.h",
    "asm/unistd.h",
}
PORT_WORDS = re.compile(
    r"\b(?:pthread_\w+|syscall|SYS_\w+|__NR_\w+|FUTEX_\w+|sem_(?:init|wait|post)"
    r"|thrd_\w+|mtx_\w+|cnd_\w+)\b"
)
SLEEP_WORDS = re.compile(
    r"\b(?:u?sleep|nanosleep|clock_nanosleep|thrd_sleep)\b(?=\s*\()"
)
PYTHON_HEADERS = re.compile(
    r"^(?:Python\.h|structmember\.h|datetime\.h|cpython/.*|internal/.*|pycore_.*)$"
)

faults: list[str] = []


def fault(path: Path, line: int, text: str) -> None:
    faults.append(f"{path}:{line}: {text}")


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def blank(match: re.Match[str]) -> str:
    """Replace a comment or literal, but keep the lines and #include "..."."""
    return re.sub(r"[^\n]", " ", match.group())


def forbid(path: Path, code: str, words: re.Pattern[str], why: str) -> None:
    for match in words.finditer(code):
        fault(path, line_of(code, match.start()), f"{match.group()}: {why}")


def is_in(path: Path, *places: str) -> bool:
    return any(path.is_relative_to(place) for place in places)


def check_include(root: Path, path: Path, line: int, style: str, name: str) -> None:
    def no(why: str) -> None:
        fault(path, line, f"#include of {name}: {why}")

    room = style == '"' and (root / "ext" / name).is_file()
    if PYTHON_HEADERS.match(name) and not is_in(path, "ext"):
        # The fake of CPython has what a room's header declares.
        if not (room and is_in(path, "tests/c/fake")):
            no("only ext/ includes Python's headers")
    if (name.startswith(("internal/", "pycore_"))) and is_in(path, "ext"):
        no("CPython's internal headers are not used at all")
    if name in ATOMIC_HEADERS:
        if path.as_posix() != "core/src/at_atomic.h":
            no("atomics only through core/src/at_atomic.h")
    if name in PORT_HEADERS and is_in(path, "core", "ext") and not is_port(path):
        no("the operating system is reached only in core/src/port_*.c")

    if style == "<" and not name.startswith("atoll/"):
        return  # a header of the system
    if is_in(path, "ext"):
        if name not in PUBLIC_HEADERS and not (root / "ext" / name).is_file():
            no("ext/ includes only its own headers and the core's public ones")
        if Path(name).name.startswith(("at_", "port_")) or ".." in name:
            no("ext/ must not reach into core/src")
    if is_in(path, "core"):
        if ".." in name or (
            name not in PUBLIC_HEADERS and not (root / "core/src" / name).is_file()
        ):
            no("core/ includes only its own headers")


def is_port(path: Path) -> bool:
    return path.parent.as_posix() == "core/src" and path.match("port_*.c")


def check_c(root: Path, path: Path) -> list[str]:
    """Check one file; return what it includes with quotes."""
    text = (root / path).read_text(encoding="utf-8")
    comments_out = NOISE.sub(
        lambda m: m.group() if m.group()[0] == '"' else blank(m), text
    )
    code = NOISE.sub(blank, text)

    included = []
    for match in INCLUDE.finditer(comments_out):
        line = line_of(text, match.start())
        check_include(root, path, line, match[1], match[2])
        included.append(match[2])

    if path.as_posix() != "core/src/at_atomic.h":
        if is_in(path, "core", "ext"):
            forbid(path, code, ATOMIC_WORDS, "atomics only in core/src/at_atomic.h")
    if is_in(path, "core", "ext"):
        forbid(path, code, SLEEP_WORDS, "nothing sleeps; wait for something")
        if not is_port(path):
            forbid(path, code, PORT_WORDS, "only in core/src/port_*.c")
    if is_in(path, "ext"):
        lint_rooms.check_code(path, code, fault)
    return included


def check_cycles(graph: dict[str, list[str]]) -> None:
    """No header of the core includes itself, however far around."""
    state: dict[str, int] = {}

    def visit(name: str, way: list[str]) -> None:
        if state.get(name) == 2:
            return
        if state.get(name) == 1:
            ring = " -> ".join([*way[way.index(name) :], name])
            fault(Path("core/src") / name, 1, f"headers in a circle: {ring}")
            return
        state[name] = 1
        for other in graph.get(name, []):
            if other in graph:
                visit(other, [*way, name])
        state[name] = 2

    for name in sorted(graph):
        visit(name, [])


def check_sleep_py(root: Path, path: Path) -> None:
    tree = ast.parse((root / path).read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            found = any(alias.name == "sleep" for alias in node.names)
        elif isinstance(node, ast.Attribute) and node.attr == "sleep":
            found = isinstance(node.value, ast.Name) and "time" in node.value.id
        else:
            continue
        if found:
            fault(path, node.lineno, "time.sleep: nothing sleeps; wait for something")


def check_listed(root: Path, folder: str, suffixes: tuple[str, ...], by: str) -> None:
    """Every source file is in the list that the build reads."""
    build = root / by
    listed = build.read_text(encoding="utf-8") if build.is_file() else ""
    for file in sorted((root / folder).glob("*")):
        if file.suffix in suffixes and file.is_file():
            if not re.search(rf"['/]{re.escape(file.name)}'", listed):
                fault(file.relative_to(root), 1, f"not listed in {by}")


def check_columns(root: Path, path: Path, limit: int) -> None:
    """What clang-format cannot break, a long string say, is broken by hand."""
    for number, line in enumerate((root / path).read_text("utf-8").splitlines(), 1):
        if len(line) > limit:
            fault(path, number, f"{len(line)} columns: more than the {limit} of .clang-format")


def column_limit(root: Path) -> int:
    """What .clang-format says; without one there is no limit."""
    layout = root / ".clang-format"
    text = layout.read_text() if layout.is_file() else ""
    found = re.search(r"^ColumnLimit: (\d+)$", text, re.M)
    return int(found[1]) if found else sys.maxsize


def check_rooms_listed(root: Path) -> None:
    """As check_listed, for the folders of ext/ and python/."""
    for top, suffixes in ("ext", {".c"}), ("python", {".py", ".pyi"}):
        build = root / top / "meson.build"
        listed = build.read_text(encoding="utf-8") if build.is_file() else ""
        for file in sorted((root / top).rglob("*")):
            name = file.relative_to(root / top).as_posix()
            if file.suffix in suffixes and f"'{name}'" not in listed:
                fault(file.relative_to(root), 1, f"not listed in {top}/meson.build")


def check_all_listed(root: Path) -> None:
    check_listed(root, "core/src", (".c",), "core/meson.build")
    check_rooms_listed(root)
    build = root / "tests/c/meson.build"
    listed = build.read_text(encoding="utf-8") if build.is_file() else ""
    for file in sorted((root / "tests/c").glob("test_*.c")):
        if f"'{file.stem}'" not in listed:
            fault(file.relative_to(root), 1, "not listed in tests/c/meson.build")


def check_rooms(root: Path, objects: Path | None) -> str:
    """All rules of the rooms. Returns what has been seen of calls, for people."""
    house = lint_rooms.House(root)
    lint_rooms.check_table(house, fault)
    lint_rooms.check_files(root, house, fault)
    for file in sorted((root / "ext").rglob("*.[ch]")):
        text = NOISE.sub(
            lambda m: m.group() if m.group()[0] == '"' else blank(m),
            file.read_text(encoding="utf-8"),
        )
        lint_rooms.check_includes(root, house, file.relative_to(root), text, fault)
    folder = objects or lint_rooms.find_objects(root)
    if folder is None:
        return "calls not checked, since no build in build/ is up to date"
    late = lint_rooms.out_of_date(root, folder, lint_rooms.sources_of(root, "ext"))
    if late:
        fault(folder, 1, f"{late} is missing, or older than its source: build first")
        return ""
    core = folder.parents[1] / "core" / "libatoll_core.a.p"
    if core.is_dir():
        lint_rooms.check_core_calls(root, core, fault)
    return lint_rooms.check_calls(root, house, folder, fault)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the rules that compilers do not.")
    parser.add_argument("--listed", action="store_true", help="only: is each file listed?")
    parser.add_argument("--objects", type=Path, help="the objects of the extension")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    args = parser.parse_args()
    root = args.root.resolve()

    check_all_listed(root)
    if args.listed:
        print("\n".join(faults), end="\n" if faults else "")
        return 1 if faults else 0

    graph: dict[str, list[str]] = {}
    limit = column_limit(root)
    count = 0
    for folder in C_DIRS:
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in C_SUFFIXES and file.is_file():
                path = file.relative_to(root)
                included = check_c(root, path)
                check_columns(root, path, limit)
                if path.parent.as_posix() == "core/src" and path.suffix == ".h":
                    graph[path.name] = included
                count += 1
    check_cycles(graph)

    seen = check_rooms(root, args.objects)

    for folder in ("core", "ext", "python"):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in C_SUFFIXES | {".py", ".pyi"} and file.is_file():
                path = file.relative_to(root)
                lines = len(file.read_text(encoding="utf-8").splitlines())
                if lines > MAX_LINES:
                    fault(path, lines, f"longer than {MAX_LINES} lines: split it")
                if file.suffix == ".py":
                    check_sleep_py(root, path)
                    count += 1

    for text in faults:
        print(text)
    if count == 0:
        print(f"{root}: nothing to check", file=sys.stderr)
        return 1
    if not faults:
        print(f"{count} files: OK; {seen}")
    return 1 if faults else 0


def with_newer_python() -> None:
    """Go on in a Python that can parse the package, if this one is too old."""
    if sys.version_info < (3, 13):  # noqa: UP036
        find = Path(__file__).with_name("find-python")
        found = subprocess.run([find], stdout=subprocess.PIPE, text=True, check=True)
        os.execv(found.stdout.strip(), [found.stdout.strip(), *sys.argv])


if __name__ == "__main__":
    with_newer_python()
    sys.exit(main())
