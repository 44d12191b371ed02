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


def python_with(package, module):
    """A Python that can import `module`: that of build/rivals, or this one."""
    candidates = (BUILD / package / "bin" / "python", Path(sys.executable))
    for python in candidates:
        command = [str(python), "-c", f"import {module}"]
        if (
            python.exists()
            and subprocess.run(command, capture_output=True, check=False).returncode == 0
        ):
            return python
    return None


class Rivals:
    """What there is of them: `time(name, program, ...)` is a number, or None."""

    def __init__(self):
        self.commands = {}
        for name in ("select", "commstime"):
            program = build_go(name)
            self.commands["go", name] = program and [program]
        python = python_with("pygolang", "golang")
        self.commands["pygolang", "select"] = python and [
            python,
            PROGRAMS / "select_pygolang.py",
        ]
        python = python_with("pycsp", "pycsp.parallel")
        self.commands["pycsp", "commstime"] = python and [
            python,
            PROGRAMS / "commstime_pycsp.py",
        ]

    def has(self, name, program):
        return self.commands[name, program] is not None

    def time(self, name, program, *arguments, timeout=120):
        """ns, as its program prints them."""
        return float(run([*self.commands[name, program], *arguments], timeout).split()[-1])
