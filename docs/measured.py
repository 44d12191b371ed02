"""The numbers of bench/results.json as a page: with machine, versions and command."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

from run import show


def page(path):
    """Markdown of all that is in the file `path` (Path), which `make bench` writes."""
    data = json.loads(Path(path).read_text())
    where = data["environment"]
    lines = [
        "",
        "## All numbers of one run",
        "",
        f"`{where['command']}` on {where['date'][:10]}: {where['cores']} cores,"
        f" {where['cpu']} ({where['machine']}), {where['kernel']}, {where['libc']},"
        f" CPython {where['python']} built with {where['compiler']},"
        f" atoll {where['atoll']} at commit `{(where['commit'] or 'unknown')[:12]}`.",
        "",
    ]
    if where["quick"]:
        lines += ["A smoke run: these numbers mean nothing.", ""]
    lines += ["| what | median | smallest | largest | repeats |", "|---|--:|--:|--:|--:|"]
    for number in data["numbers"].values():
        cells = [f"{show(number[key])} {number['unit']}" for key in ("median", "min", "max")]
        what = number["what"].replace("|", "\\|")
        lines.append(f"| {what} | {' | '.join(cells)} | {number['repeats']} |")
    return "\n".join(lines) + "\n"
