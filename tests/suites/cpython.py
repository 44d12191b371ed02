"""Run CPython's own tests in main and in interpreters of atoll's, and compare.

cpython.py FOLDER [OPTIONS] [MODULE...] takes the modules of the `test` package of the
Python that runs it: all, a tenth of them, or those named ("test_json", or a pattern).
Each is run in child processes: in main, in an interpreter, and in two interpreters at
once if it uses nothing that a process has one of. FOLDER gets what they did.

What does less well in an interpreter than in main, or in two than in one, and is not in
cpython.toml, is tried once more by itself. If it is still so, the exit status is 1.

Some of these tests write where they are, and to files whose names they find out. So each
child has a folder of its own, and sees the Python and this project read-only if the
system can do that. If not, the library is looked at after each module, and a change ends
the run.
"""

import argparse
import collections
import concurrent.futures
import fnmatch
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import tomllib
from dataclasses import dataclass, field

import record

HERE = os.path.dirname(os.path.abspath(__file__))
LIST = os.path.join(HERE, "cpython.toml")
VERSION = "{}.{}".format(*sys.version_info)
#: So many seconds may pass without a test beginning or ending.
PATIENCE = 240
PARTS = 10
MOST_SHOWN = 200

#: Runs "$@" where the folders of $readonly cannot be written to, but $folder can.
READ_ONLY = """
set -e
for path in $readonly; do mount --bind "$path" "$path"; done
mount --bind "$folder" "$folder"
for path in $readonly; do mount -o remount,bind,ro "$path"; done
unset readonly folder
exec "$@"
"""

#: A module whose source has one of these is not run twice at once in a process.
PROCESS_WIDE = re.compile(
    r"os_helper|TESTFN|tempfile|tmpdir|\bopen\(|chdir|subprocess|script_helper|assert_python"
    r"|signal|fork|spawn|environ|putenv|setlocale|umask|rlimit|socket|tracemalloc|syslog"
    r"|faulthandler|\bpty\b|tty|dup2|tzset|datetimetester"
)


@dataclass
class Entry:
    """Tests that may differ, and why."""

    reason: str
    tests: list[str]
    versions: list[str] = field(default_factory=lambda: [VERSION])
    sometimes: bool = False  # whether they do depends on the machine, or on luck
    refused: bool = False  # CPython itself refuses it outside main
    not_run: bool = False  # they would hang, or disturb the next one
    used: set[str] = field(default_factory=set)

    def find(self, test: str) -> str | None:
        return next((p for p in self.tests if fnmatch.fnmatchcase(test, p)), None)


class Known:
    """The list: the tables in it that are for this version."""

    def __init__(self) -> None:
        with open(LIST, "rb") as file:
            data = tomllib.load(file)
        wrong = set(data) - {"differs", "differs_in_two", "alone", "slow"}
        assert not wrong, f"{LIST}: {wrong}"
        self.differs = self._entries(data, "differs")
        self.in_two = self._entries(data, "differs_in_two")
        self.alone = self._entries(data, "alone")
        self.slow = self._entries(data, "slow")

    @staticmethod
    def _entries(data: dict[str, list[dict[str, object]]], kind: str) -> list[Entry]:
        entries = [Entry(**table) for table in data.get(kind, [])]  # type: ignore[arg-type]
        return [entry for entry in entries if VERSION in entry.versions]

    def of(self, place: str) -> list[Entry]:
        return self.differs if place == "atoll" else self.differs + self.in_two

    def left_out(self, place: str) -> list[str]:
        """Patterns of tests that are not to be run there."""
        entries = [] if place == "main" else self.of(place)
        return [pattern for entry in entries if entry.not_run for pattern in entry.tests]


def has(entries: list[Entry], name: str) -> bool:
    return any(entry.find(name) for entry in entries)


def all_modules() -> list[str]:
    from test.libregrtest.findtests import findtests

    return sorted(name if name.startswith("test.") else f"test.{name}" for name in findtests())


def choose(options: argparse.Namespace, known: Known) -> list[str]:
    modules = all_modules()
    if options.modules:
        wanted = [p if p.startswith("test.") else f"test.{p}" for p in options.modules]
        modules = [
            m
            for m in modules
            if any(fnmatch.fnmatchcase(m, p) or m.startswith(p + ".") for p in wanted)
        ]
    elif options.part is not None:
        modules = [
            m
            for m in modules
            if int(hashlib.sha256(m.encode()).hexdigest(), 16) % PARTS == options.part % PARTS
            and not has(known.slow, m)
        ]
    if not modules:
        sys.exit("no such modules")
    return modules


@dataclass
class Outcome:
    """What the tests of a module did in one place."""

    tests: dict[str, str]
    why: dict[str, str]
    seconds: float

    def __str__(self) -> str:
        counts = sorted(collections.Counter(self.tests.values()).items())
        return ", ".join(f"{n} {kind}" for kind, n in counts) + f" in {self.seconds:.0f} s"


def sources(module: str) -> list[str]:
    """The files of a module, or of a package."""
    import test

    path = os.path.join(test.__path__[0], *module.split(".")[1:])
    if os.path.isfile(path + ".py"):
        return [path + ".py"]
    return [
        os.path.join(folder, name)
        for folder, _, names in os.walk(path)
        for name in names
        if name.endswith(".py")
    ]


def goes_twice(module: str) -> bool:
    """Whether two interpreters may run the module at once: it shares no files then."""
    for path in sources(module):
        with open(path, encoding="utf-8", errors="replace") as file:
            if PROCESS_WIDE.search(file.read()):
                return False
    return True


def library() -> dict[str, tuple[int, int]]:
    """Size and time of each file of the standard library but for bytecode."""
    found = {}
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def read_only(folder: str) -> list[str]:
    """What is put before a command so that it can change neither Python nor the project."""
    project = os.path.dirname(os.path.dirname(HERE))
    paths = sorted({os.path.realpath(p) for p in (project, sys.prefix, sys.base_prefix)})
    if shutil.which("unshare") is None or any(" " in path for path in [folder, *paths]):
        return []
    command = ["unshare", "--mount", "env", f"readonly={' '.join(paths)}", f"folder={folder}"]
    command += ["sh", "-c", READ_ONLY, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True)
    return command if tried.returncode == 0 else []


@dataclass
class How:
    """What is the same for all children."""

    folder: str
    known: Known
    wrapper: list[str]
    exposed: dict[str, tuple[int, int]]  # the library, unless the wrapper protects it


def run(how: How, module: str, place: str) -> Outcome:
    """Run a module in one place: main, atoll, or two."""
    folder, known = how.folder, how.known
    base = os.path.join(folder, f"{module}-{place}")
    paths = [f"{base}.txt"]
    if place == "two":
        paths.append(f"{base}-1.txt")
    # Names of sockets must be short, so this is not in the folder.
    scratch = tempfile.mkdtemp(prefix="suite-")
    command = [*how.wrapper, sys.executable, "-X", "faulthandler"]
    command += [os.path.join(HERE, "cpython_in.py"), place, module]
    begun = time.monotonic()
    try:
        record.run_recorded(
            [*command, json.dumps(known.left_out(place)), *paths],
            paths,
            f"{base}.log",
            os.environ | {"TMPDIR": scratch},
            PATIENCE,
            lambda text: print(f"  {module}, {place}: {text}", flush=True),
            cwd=scratch,
        )
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", scratch], capture_output=True)
        shutil.rmtree(scratch, ignore_errors=True)
    if how.exposed and (changed := how.exposed.items() ^ library().items()):
        files = ", ".join(sorted({path for path, _ in changed}))
        print(f"error: {module}, {place}: a test has changed {files}", flush=True)
        os._exit(1)  # also what runs beside it, for it may use that
    outcome = Outcome({}, {}, time.monotonic() - begun)
    for path in paths:
        tests, why, _ = record.read(path)
        outcome.why |= why
        for test, kind in tests.items():
            if test == record.ALL:
                continue
            if test == record.END:
                test = f"{module}.{record.END}"
                outcome.why[test] = why[record.END]
            worst = max(kind, outcome.tests.get(test, kind), key=record.OUTCOMES.index)
            outcome.tests[test] = worst
    return outcome


def run_all(
    run_one: "functools.partial[Outcome]", work: list[tuple[str, str]], jobs: int
) -> dict[tuple[str, str], Outcome]:
    """Run modules in places, some at a time."""
    lock = threading.Lock()
    found: dict[tuple[str, str], Outcome] = {}

    def one(item: tuple[str, str]) -> None:
        outcome = run_one(*item)
        with lock:
            found[item] = outcome
            print(f"{len(found)}/{len(work)} {item[0]}, {item[1]}: {outcome}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, work))
    return found


def differences(there: Outcome, here: Outcome) -> dict[str, str]:
    """Tests that do less well here: their outcome, and what was said of it."""
    found = {}
    for test in sorted(there.tests.keys() | here.tests.keys()):
        outcome = here.tests.get(test, "missing")
        first = there.tests.get(test, "missing")
        if first in record.GOOD:
            differs = outcome not in record.GOOD
        elif first in ("skipped", "missing"):
            differs = outcome in ("failed", "hung", "crashed")
        else:  # it fails in both, but may be worse here
            differs = outcome in ("hung", "crashed") and first == "failed"
        if differs:
            found[test] = f"{outcome} {here.why.get(test, '')}".strip()
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--part", type=int, help=f"one of {PARTS} parts of the modules")
    parser.add_argument("--places", default="main,atoll,two")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    folder = os.path.abspath(options.folder)
    os.makedirs(folder, exist_ok=True)
    known = Known()
    modules = choose(options, known)
    places = options.places.split(",")
    begun = time.monotonic()
    wrapper = read_only(folder)
    if not wrapper:
        print("the tests can write to this Python's own files: these are looked at")
    run_one = functools.partial(run, How(folder, known, wrapper, {} if wrapper else library()))
    work = [
        (module, place)
        for module in modules
        for place in places
        if place != "two" or (goes_twice(module) and not has(known.alone, module))
    ]
    found = run_all(run_one, work, options.jobs)

    # Each place is compared with the one before it.
    pairs = [
        (module, first, second)
        for first, second in itertools.pairwise(places)
        for module in modules
        if (module, second) in found
    ]

    def unlisted(pair: tuple[str, str, str]) -> dict[str, str]:
        module, first, second = pair
        differing = differences(found[module, first], found[module, second])
        return {t: w for t, w in differing.items() if not has(known.of(second), t)}

    again = [pair for pair in pairs if unlisted(pair)]
    for pair in again:
        module, first, second = pair
        before = unlisted(pair)
        print(f"once more by itself: {module}, {second}: {', '.join(before)}", flush=True)
        for place in (first, second):
            outcome = run_one(module, place)
            print(f"  {place}: {outcome}", flush=True)
            found[module, place] = outcome
        for test in before.keys() - unlisted(pair).keys():
            print(f"unsteady: {test}: {before[test]}", flush=True)

    new = {}
    listed = collections.Counter[str]()
    for pair in pairs:
        module, first, second = pair
        for test, what in differences(found[module, first], found[module, second]).items():
            hits = [(e, p) for e in known.of(second) if (p := e.find(test))]
            for entry, pattern in hits:
                entry.used.add(pattern)
            if hits:
                listed[second] += 1
            else:
                new[f"{test} ({second})"] = what
    for test, what in list(new.items())[:MOST_SHOWN]:
        print(f"NEW: {test}: {what}")
    if len(new) > MOST_SHOWN:
        print(f"... and {len(new) - MOST_SHOWN} more: see {folder}")

    # What of the list was not needed, although the place before passed such a test.
    for second in places[1:]:
        good = {
            test
            for module, first, place in pairs
            if place == second
            for test, outcome in found[module, first].tests.items()
            if outcome in record.GOOD
        }
        for entry in known.differs if second == "atoll" else known.in_two:
            for pattern in entry.tests:
                if pattern in entry.used or entry.sometimes:
                    continue
                if any(fnmatch.fnmatchcase(test, pattern) for test in good):
                    print(f"no longer needed in cpython.toml: {pattern}")

    with open(os.path.join(folder, "outcomes.json"), "w") as file:
        json.dump({f"{m} {p}": vars(o) for (m, p), o in found.items()}, file, indent=1)
    for first, second in itertools.pairwise(places):
        good = passed = ran = refused = 0
        refusals = [entry for entry in known.of(second) if entry.refused]
        for module in modules:
            if (module, second) in found:
                there, here = found[module, first].tests, found[module, second].tests
                ran += len(here)
                good += sum(outcome in record.GOOD for outcome in there.values())
                passed += sum(
                    outcome in record.GOOD and here.get(test) in record.GOOD
                    for test, outcome in there.items()
                )
                refused += sum(
                    outcome in record.GOOD
                    and here.get(test) not in record.GOOD
                    and has(refusals, test)
                    for test, outcome in there.items()
                )
        print(
            f"CPython {VERSION}: {ran} tests begin in {second}; of {good} that pass in "
            f"{first} {passed} pass there ({100 * passed / max(good, 1):.2f} %), "
            f"{listed[second]} differ for known reasons; without the {refused} with what "
            f"CPython refuses outside main: {100 * passed / max(good - refused, 1):.2f} %"
        )
        if not good:
            sys.exit("error: no test passed")
    print(
        f"{len(modules)} modules, {len(new)} differences that are not in the list, "
        f"{time.monotonic() - begun:.0f} s"
    )
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
