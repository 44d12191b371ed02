"""Write docs/extensions.md from what test_extensions.py has found.

report.py RESULTS... merges those files (one line of JSON for each test) into
docs/extensions.json, which keeps the results of other versions of CPython, and
makes the table of it.
"""

import json
import os
import sys
from typing import Any

import ext_packages as packages
import run_one

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs")
DATA = os.path.join(DOCS, "extensions.json")
PAGE = os.path.join(DOCS, "extensions.md")

HEAD = """\
# Extension modules

What `make extensions` found: each package from its wheel, unmodified, used as people
use it ([tests/extensions/uses](../tests/extensions/uses)), with the results checked.
Each cell counts the ways that work, of four: in the main interpreter without atoll; in
three interpreters one after the other; in three at the same time; in three at the same
time as in main. "–" means that there is no wheel for that version of CPython.

"""

#: What is known of those that fail, for the end of the page.
KNOWN: dict[str, str] = {}

#: package -> minor version of CPython -> mode -> result
Results = dict[str, dict[str, dict[str, Any]]]


def minor_of(version: str) -> str:
    return ".".join(version.split(".")[:2])


def merge(data: dict[str, Any], path: str) -> None:
    results: Results = data.setdefault("results", {})
    fresh = set()
    with open(path) as file:
        for line in file:
            result = json.loads(line)
            minor = minor_of(result["python"])
            place = results.setdefault(result["package"], {})
            if (result["package"], minor) not in fresh:
                fresh.add((result["package"], minor))
                place[minor] = {}
            data.setdefault("pythons", {})[minor] = result["python"]
            kept = {key: result[key] for key in ("ok", "version") if key in result}
            if not result["ok"]:
                kept["why"] = str(result.get("why", "it failed"))[:200]
            place[minor][result["mode"]] = kept


def cell(package: packages.Package, minor: str, modes: dict[str, Any]) -> str:
    if not modes:
        return "–" if minor in package.missing_on else "not tested"
    good = sum(result["ok"] for result in modes.values())
    return f"{good} of {len(modes)}" if good < len(modes) else f"all {good}"


def page(data: dict[str, Any]) -> str:
    minors = sorted(data["pythons"], key=lambda minor: [int(part) for part in minor.split(".")])
    results: Results = data["results"]
    lines = ["| package | version | " + " | ".join(data["pythons"][m] for m in minors) + " |"]
    lines.append("|---|---|" + "---|" * len(minors))
    failures = []
    for package in packages.PACKAGES:
        place = results.get(package.name, {})
        versions = {result["version"] for modes in place.values() for result in modes.values()}
        cells = [cell(package, minor, place.get(minor, {})) for minor in minors]
        lines.append(
            f"| {package.name} | {', '.join(sorted(versions))} | {' | '.join(cells)} |"
        )
        for minor in minors:
            for mode in run_one.MODES:
                result = place.get(minor, {}).get(mode)
                if result and not result["ok"]:
                    why = result["why"].replace("|", "\\|")
                    failures.append(f"| {package.name} | {minor} | {mode} | {why} |")
    text = HEAD + "\n".join(lines) + "\n"
    if failures:
        text += (
            "\n## What does not work\n\n| package | CPython | how | why |\n|---|---|---|---|\n"
        )
        text += "\n".join(failures) + "\n"
        for name, known in KNOWN.items():
            if any(line.startswith(f"| {name} |") for line in failures):
                text += f"\n**{name}.** {known}\n"
    return text


def main(paths: list[str]) -> None:
    data: dict[str, Any] = {}
    if os.path.exists(DATA):
        with open(DATA) as file:
            data = json.load(file)
    for path in paths:
        merge(data, path)
    with open(DATA, "w") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
    with open(PAGE, "w") as file:
        file.write(page(data))


if __name__ == "__main__":
    main(sys.argv[1:])
