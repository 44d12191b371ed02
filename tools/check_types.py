#!/usr/bin/env python3
"""Have mypy and pyright look at tests/types, over the atoll that is installed.

    python tools/check_types.py CACHE

CACHE is mypy's directory for what it knows. Nothing may be found in right.py. In wrong.py
each of the two must find what the comments at the ends of lines say, and nothing else:

    send.send("x")  # error: arg-type | reportArgumentType

Every public name must have a type that pyright knows without guessing, but for those
whose base classes are of packages that need not be there.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

PLACE = Path(__file__).resolve().parents[1] / "tests" / "types"
RIGHT, WRONG = "right.py", "wrong.py"
EXPECTED = re.compile(r"# error: (.+?) \| (.+)$")
LEAST = 40  # errors expected, so that nobody empties the file
FOREIGN = ("atoll.dask.", "atoll.joblib.")


def start(*command):
    """`command`, of this environment; what it prints is to be read by finish()."""
    env = {key: value for key, value in os.environ.items() if key != "MYPYPATH"}
    # A pyright that is not the one installed would be downloaded.
    env = {key: value for key, value in env.items() if not key.startswith("PYRIGHT_")}
    # It asks for the Python on PATH which packages there are.
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=PLACE,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, parse):
    """What `parse` makes of its output; ends the program if it has not worked."""
    out, err = process.communicate()
    try:
        if out and process.returncode in (0, 1):
            return parse(out)
    except (ValueError, KeyError):
        pass
    command = " ".join(process.args)
    sys.exit(f"{command}\n{out}{err}: it has failed, with status {process.returncode}")


def parse_mypy(out):
    found = [json.loads(line) for line in out.splitlines()]
    return {
        (Path(one["file"]).name, one["line"], one["code"])
        for one in found
        if one["severity"] == "error"
    }


def parse_pyright(out):
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one.get("rule"))
        for one in json.loads(out)["generalDiagnostics"]
        if one["severity"] in ("error", "warning")
    }


def parse_unknown(out):
    symbols = json.loads(out)["typeCompleteness"]["symbols"]
    names = {one["name"] for one in symbols if one["isExported"] and not one["isTypeKnown"]}
    if not symbols:
        raise ValueError("no symbols")
    return {name for name in names if not name.startswith(FOREIGN)}


def expected():
    """What wrong.py says, of mypy and of pyright: (file, line, code) each."""
    both = set(), set()
    for number, line in enumerate((PLACE / WRONG).read_text().splitlines(), 1):
        match = EXPECTED.search(line)
        if match is None and "# error:" in line:
            sys.exit(f"{WRONG}:{number}: not `# error: codes | rules`")
        for found, codes in zip(both, match.groups() if match else (), strict=False):
            found.update((WRONG, number, code) for code in codes.split(", "))
    return both


def compare(tool, wanted, found):
    """Print what differs; how much that is."""
    for file, line, code in sorted(found - wanted, key=str):
        print(f"{file}:{line}: {tool} finds {code}, which is not expected")
    for file, line, code in sorted(wanted - found, key=str):
        print(f"{file}:{line}: {tool} does not find {code}")
    return len(found ^ wanted)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    cache = Path(sys.argv[1]).resolve()
    python = f"--python-executable={sys.executable}"
    options = ("--strict", "--config-file=", f"--cache-dir={cache}", "--output=json", python)
    mypy = start("mypy", *options, RIGHT, WRONG)
    names = start("pyright", "--verifytypes=atoll", "--ignoreexternal", "--outputjson")
    pyright = start("pyright", f"--pythonpath={sys.executable}", "--outputjson")
    wanted = expected()
    bad = compare("mypy", wanted[0], finish(mypy, parse_mypy))
    bad += compare("pyright", wanted[1], finish(pyright, parse_pyright))
    unknown = finish(names, parse_unknown)
    for name in sorted(unknown):
        print(f"{name}: its type is unknown, or checkers may infer different ones")
    lines = {line for _, line, _ in wanted[0]}
    if len(lines) < LEAST:
        sys.exit(f"{WRONG} has {len(lines)} lines with errors, fewer than {LEAST}")
    if bad or unknown:
        sys.exit(1)
    rights = (PLACE / RIGHT).read_text().count("assert_type(")
    print(f"{len(lines)} expected errors found by both, {rights} types as asserted")


if __name__ == "__main__":
    main()
