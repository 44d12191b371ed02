"""Rivals that are not of this Python: Go, pygolang, PyCSP. What is not there is None.

Their programs are in bench/rivals/. Go comes from the system; the packages from
environments that `make bench` makes, as far as they can be installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import common

PROGRAMS = common.REPOSITORY / "bench" / "rivals"
BUILD = Path(os.environ.get("ATOLL_RIVALS") or common.REPOSITORY / "build" / "rivals")

HOW_TO_GET = {
    "go": "no Go here; Debian: apt-get install golang-go",
    "pygolang": "pygolang cannot be installed here (it needs a CPython up to 3.11 with"
    " its headers, and a C++ compiler)",
    "pycsp": "PyCSP cannot be installed here",
}


def run(command, timeout):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout


def build_go(name):
    """Compile `name`.go, unless that has been done. The program, or None."""
    go = shutil.which("go")
    if go is None:
        return None
    source, program = PROGRAMS / f"{name}.go", BUILD / "go" / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        env = {**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
        env["GOCACHE"] = str(BUILD / "go" / "cache")
        command = [go, "build", "-o", str(program), str(source)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"go build {source}:\n{done.stderr}", file=sys.stderr)
            return None
    return program


def works(command, *arguments):
    """`command` as a list if a short trial of it ends well, else None."""
    command = [str(part) for part in command]
    try:
        float(run([*command, *arguments], timeout=60).split()[-1])
    except (OSError, RuntimeError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return command


def packaged(package, program, *arguments):
    """The command for `program`: with the Python of build/rivals, or with this one."""
    for python in (BUILD / package / "bin" / "python", Path(sys.executable)):
        if python.exists():
            command = works([python, PROGRAMS / program], *arguments)
            if command is not None:
                return command
    return None


class Rivals:
    """What there is of them: `time(name, program, ...)` is a number."""

    def __init__(self):
        select = ("ready", 2, 10)
        go = {name: build_go(name) for name in ("select", "commstime")}
        self.commands = {
            ("go", "select"): go["select"] and works([go["select"]], *select),
            ("go", "commstime"): go["commstime"] and works([go["commstime"]], 10),
            ("pygolang", "select"): packaged("pygolang", "select_pygolang.py", *select),
            ("pycsp", "commstime"): packaged("pycsp", "commstime_pycsp.py", 10),
        }

    def has(self, name, program):
        return self.commands[name, program] is not None

    def time(self, name, program, *arguments, timeout=120):
        """ns, as its program prints them."""
        return float(run([*self.commands[name, program], *arguments], timeout).split()[-1])
