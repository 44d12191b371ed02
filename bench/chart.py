"""Draw the chart of the README from bench/results.json.

    python bench/chart.py [RESULTS] [--output docs/chart.svg]

Left: what a message costs, on a logarithmic scale. Right: the speed-up of the
demo's job. All bars are medians of one run of `make bench`.
"""

import argparse
import json
import math
import sys
from html import escape
from pathlib import Path

BENCH = Path(__file__).resolve().parent

MESSAGES = (
    ("round_trip.queue", "atoll, two interpreters"),
    ("round_trip.simple_queue", "SimpleQueue, two threads"),
    ("round_trip.pipe", "Pipe, two processes"),
    ("round_trip.stdlib", "concurrent.interpreters"),
)
JOB = (
    ("job.atoll.speedup", "atoll interpreters"),
    ("job.threads.speedup", "threads"),
    ("job.processes.speedup", "processes"),
    ("job.serially.speedup", "one after the other"),
)

WIDTH = 920
PANEL = 428
LABEL = 184  # of a panel, for the names
VALUE = 74  # of a panel, for the numbers
ROW = 32
BAR = 20
TOP = 84
OURS, OTHERS, INK, PALE = "#0b7a75", "#a9b4bd", "#1c2329", "#5f6b75"


def text(x, y, content, size=13, anchor="start", colour=INK, bold=False):
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}"'
        f' text-anchor="{anchor}" fill="{colour}"{weight}>'
        f"{escape(content)}</text>"
    )


def bar(x, y, width, colour):
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}"'
        f' height="{BAR}" rx="2" fill="{colour}"/>'
    )


def line(x, top, bottom):
    return f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#e3e7ea"/>'


def panel(left, title, rows, ticks, scale, show):
    """One group of bars. `scale` turns a value into 0 … 1."""
    room = PANEL - LABEL - VALUE
    bottom = TOP + len(rows) * ROW
    parts = [text(left, TOP - 16, title, bold=True)]
    for value, label in ticks:
        x = left + LABEL + scale(value) * room
        parts.append(line(x, TOP - 6, bottom))
        parts.append(text(x, bottom + 14, label, 11, "middle", PALE))
    for i, (name, value) in enumerate(rows):
        y = TOP + i * ROW
        ours = name.startswith("atoll")
        middle = y + BAR - 5
        width = scale(value) * room
        parts.append(text(left + LABEL - 8, middle, name, 13, "end", bold=ours))
        parts.append(bar(left + LABEL, y, width, OURS if ours else OTHERS))
        parts.append(text(left + LABEL + width + 6, middle, show(value), bold=ours))
    return parts


def message_panel(left, rows):
    low = 10 ** math.floor(math.log10(min(value for _, value in rows) / 2))
    high = max(value for _, value in rows)
    span = math.log10(high / low)

    def scale(value):
        return math.log10(value / low) / span

    def show(value):
        if value >= 1000:
            return f"{value:,.0f} µs"
        return f"{value:.2f} µs" if value < 10 else f"{value:.0f} µs"

    first, last = round(math.log10(low)), math.floor(math.log10(high))
    ticks = [
        (10.0**n, "" if (n - first) % 2 else f"{10.0**n:,g}") for n in range(first, last + 1)
    ]
    title = "An int there and back (µs, log scale, less is better)"
    return panel(left, title, rows, ticks, scale, show)


def job_panel(left, rows, seconds):
    top = math.ceil(max(value for _, value in rows))
    ticks = [(n, f"{n} ×") for n in range(top + 1)]
    title = f"Speed-up of a job of {seconds:.1f} s (more is better)"
    return panel(
        left,
        title,
        rows,
        ticks,
        lambda value: value / top,
        lambda value: f"{value:.2f} ×",
    )


def draw(results):
    numbers, where = results["numbers"], results["environment"]

    def rows(which):
        return [(name, numbers[key]["median"]) for key, name in which if key in numbers]

    seconds = numbers["job.serially.time"]["median"]
    height = TOP + len(MESSAGES) * ROW + 58
    title = "Two workers on two cores: what a message costs, what a job gains"
    if where["cores"] != 2:
        title = "Two workers: what a message costs, what a job gains"
    below = (
        f"CPython {where['python']}, {where['cpu']}, {where['cores']} cores,"
        f" {where['kernel']}. The job: parse the standard library with ast."
        " Medians of one run of make bench."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}"'
        f' height="{height}" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial,'
        ' sans-serif">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff"/>',
        text(24, 36, title, 17, bold=True),
        *message_panel(24, rows(MESSAGES)),
        *job_panel(24 + PANEL + 24, rows(JOB), seconds),
        text(24, height - 16, below, 11, colour=PALE),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Draw the chart of the README as SVG.")
    parser.add_argument("results", nargs="?", type=Path, default=BENCH / "results.json")
    parser.add_argument("--output", type=Path, default=BENCH.parent / "docs" / "chart.svg")
    args = parser.parse_args()
    try:
        results = json.loads(args.results.read_text())
        image = draw(results)
    except OSError as error:
        sys.exit(f"{error}; run `make bench` first")
    except (KeyError, ValueError) as error:
        sys.exit(f"{args.results} is not a full run of `make bench`: {error}")
    if results["environment"]["quick"]:
        print("Note: these numbers are of a smoke run.", file=sys.stderr)
    args.output.write_text(image)
    print(f"Written to {args.output}.")


if __name__ == "__main__":
    main()
