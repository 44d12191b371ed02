"""Write what a whole run of `make bench` says where people read it.

    python bench/report.py [RESULTS]

docs/measurements.md is all of it. README.md and docs/map.md have some of its tables, each
between a line `<!-- figures: NAME -->` and a line `<!-- end of figures -->`; and
docs/chart.svg is drawn.
`make bench` does it when every theme has been measured.
"""

import json
import re
import sys
from pathlib import Path

import chart

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = BENCH / "results.json"

# What the README says of costs: what, the number of ours, and those of rivals by name.
COSTS = (
    (
        "an int there and back, both sides awake",
        "round_trip.queue",
        {"`multiprocessing.Pipe`": "round_trip.pipe", "two threads": "round_trip.simple_queue"},
    ),
    (
        "small ints, one way",
        "one_way.bounded",
        {"`multiprocessing.Pipe`": "one_way.pipe", "two threads": "one_way.simple_queue"},
    ),
    (
        "a dict of 1,000 entries, there and back",
        "transfer.trip.atoll",
        {"`multiprocessing.Pipe`": "transfer.trip.pipe"},
    ),
    (
        "a no-op task, from `submit` to its result",
        "executor.latency.atoll",
        {
            "process pool": "executor.latency.processes",
            "thread pool": "executor.latency.threads",
        },
    ),
    (
        "no-op tasks by `map`, two workers",
        "executor.rate.atoll",
        {"process pool": "executor.rate.processes"},
    ),
    (
        "pure Python with two workers, against one",
        "speedup.interpreters",
        {"two processes": "speedup.processes"},
    ),
    (
        "give a worker a graph of 1,000,000 objects",
        "shared.give_frozen",
        {"`multiprocessing.Pipe`": "shared.give_processes"},
    ),
    (
        "create an interpreter",
        "lifecycle.atoll_create",
        {"bare C loop": "lifecycle.bare_create"},
    ),
    (
        "`import atoll`",
        "import.main",
        {"`concurrent.interpreters`": "import.main_stdlib"},
    ),
)

# Ways to use many cores, and what they keep apart.
ALTERNATIVES = (
    ("atoll", "**atoll**", "objects: a bug in one worker's Python cannot change another's"),
    ("threads", "threads", "nothing; one of them runs Python at a time"),
    ("free_threads", "threads of a free-threaded CPython", "nothing: locks are yours"),
    ("processes", "`multiprocessing`", "everything, crashes too"),
    (
        "interpreters",
        "`concurrent.interpreters`",
        "objects; NumPy and many other extensions cannot be imported",
    ),
    ("ray", "Ray", "everything, on many machines"),
)


# What the function of `atoll map` takes for a line, in µs: see py/map_cheap.py.
MAP_COSTS = ("0", "1", "5")


def show(value):
    """`value` with three significant digits or all of its whole ones, and no exponent."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0
    while abs(value) * 10**digits < 100 and digits < 6:
        digits += 1
    return f"{value:.{digits}f}"


def number(data, key):
    """The median of `key` with its unit."""
    found = data["numbers"][key]
    unit = found["unit"]
    space = "" if unit.startswith(("/", "%")) else " "
    return f"{show(found['median'])}{space}{unit}"


def where(data):
    """A sentence: the machine, the versions and the command of a run."""
    env = data["environment"]
    return (
        f"`{env['command']}` on {env['date'][:10]}: {env['cores']} cores, {env['cpu']}"
        f" ({env['machine']}), {env['kernel']}, {env['libc']}, CPython {env['python']} built"
        f" with {env['compiler']}, atoll {env['atoll']} at commit"
        f" `{(env['commit'] or 'unknown')[:12]}`."
    )


def costs(data):
    """The table of COSTS (list of str)."""
    lines = ["| | atoll | the same with |", "|---|--:|---|"]
    for what, ours, rivals in COSTS:
        named = [f"{name} {number(data, key)}" for name, key in rivals.items()]
        lines.append(f"| {what} | {number(data, ours)} | {', '.join(named)} |")
    return lines


def alternatives(data):
    """The table of ALTERNATIVES (list of str). What was not measured says so."""
    lines = [
        "| | the first worker answers after | a further one | memory of a further one |"
        " an int there and back | what is kept apart |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for way, name, isolation in ALTERNATIVES:
        cells = [
            number(data, key) if key in data["numbers"] else "not measured"
            for part in ("first", "further", "memory", "trip")
            for key in [f"alternatives.{way}.{part}"]
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {isolation} |")
    return lines


def break_even(data):
    """The table of MAP_COSTS (list of str): from how many lines on atoll map pays."""
    lines = [
        "| the function takes | a line in a loop | in `atoll map -j 2` | and it is faster |",
        "|--:|--:|--:|--:|",
    ]
    for cost in MAP_COSTS:
        key = f"map_cheap.{cost}"
        known = f"{key}.lines" in data["numbers"]
        pays = "from " + number(data, f"{key}.lines") + " on" if known else "never"
        cells = [f"{cost} µs", number(data, f"{key}.loop"), number(data, f"{key}.atoll"), pays]
        lines.append(f"| {' | '.join(cells)} |")
    start = number(data, "map_cheap.start")
    return [*lines, "", f"It starts {start} later than the loop, which is in the last column."]


TABLES = {"costs": costs, "alternatives": alternatives, "break_even": break_even}
#: Where they are.
PAGES = ("README.md", "docs/map.md")


def cell(text):
    return str(text).replace("|", "\\|")


def page(data, themes):
    """docs/measurements.md (str). `themes` (dict) has a description for each theme."""
    lines = [
        "# Measurements",
        "",
        "<!-- written by `make bench` -->",
        "",
        "One run of `make bench`: atoll and its rivals were measured in turns, on the same"
        " machine. [How each is measured](/benchmarks.md). Compare figures of one run with"
        " each other; those of two machines only as ratios.",
        "",
        where(data),
    ]
    for theme, what in themes.items():
        goals = [goal for goal in data["goals"] if goal["theme"] == theme]
        numbers = [one for one in data["numbers"].values() if one["theme"] == theme]
        if not numbers:
            continue
        lines += ["", f"## {what[0].upper()}{what[1:]}", ""]
        if goals:
            lines += ["| | goal | atoll | rival or floor | met |", "|---|---|---|---|---|"]
            for goal in goals:
                met = {True: "yes", False: "**no**", None: "–"}[goal["met"]]
                texts = [cell(goal[key]) for key in ("what", "goal", "measured", "beside")]
                lines.append(f"| {' | '.join(texts)} | {met} |")
            lines.append("")
        lines += ["| | median | smallest | largest | repeats |", "|---|--:|--:|--:|--:|"]
        for one in numbers:
            values = [f"{show(one[key])} {one['unit']}" for key in ("median", "min", "max")]
            lines.append(f"| {cell(one['what'])} | {' | '.join(values)} | {one['repeats']} |")
    return "\n".join(lines) + "\n"


def fill(text, data):
    """`text` with each table between its marks as `data` has it."""

    def table(match):
        lines = TABLES[match["name"]](data)
        return f"{match['begin']}\n{chr(10).join(lines)}\n\n{where(data)}\n{match['end']}"

    marks = r"(?P<begin><!-- figures: (?P<name>\w+) -->)\n.*?(?P<end><!-- end of figures -->)"
    return re.sub(marks, table, text, flags=re.DOTALL)


def write(data, themes):
    """Write all that is said above. `data` is that of a whole run."""
    (ROOT / "docs" / "measurements.md").write_text(page(data, themes))
    for name in PAGES:
        (ROOT / name).write_text(fill((ROOT / name).read_text(), data))
    (ROOT / "docs" / "chart.svg").write_text(chart.draw(data))


if __name__ == "__main__":
    from run import THEMES

    write(json.loads(Path((sys.argv[1:] or [RESULTS])[0]).read_text()), THEMES)
