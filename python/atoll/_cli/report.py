"""A picture of a timeline that atoll.trace() has written: SVG, and a table."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TextIO

_WIDTH, _LEFT, _RIGHT = 1200, 190, 20
_ROW, _BAR, _TOP = 34, 18, 34
# Colours that people with any kind of sight can tell apart: Okabe and Ito, "Color
# Universal Design", 2008.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#a39a00")
_FAILED, _WAIT, _TICK, _OTHER = "#b00020", "#9aa0a6", "#5f6368", "#795548"
_LETTER = 7  # how wide one is, about


class TraceFileError(ValueError):
    """It is not a file that atoll.trace() has written."""


@dataclass
class Track:
    """A thread."""

    name: str = ""
    order: int = 0
    tasks: list[tuple[float, float, str, bool]] = field(default_factory=list)
    waits: list[tuple[float, float, str]] = field(default_factory=list)
    messages: list[float] = field(default_factory=list)


@dataclass
class Timeline:
    """What is in the file; times in µs from the first event."""

    tracks: list[Track]
    length: float
    about: dict[str, Any]


def read(file: TextIO) -> Timeline:
    """Raises TraceFileError if it is something else."""
    try:
        data = json.load(file)
        events = data["traceEvents"]
        tracks: defaultdict[int, Track] = defaultdict(Track)
        for event in events:
            _add(tracks, event)
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise TraceFileError(f"not a trace of atoll's: {type(exc).__name__}: {exc}") from exc
    found = sorted((track for track in tracks.values() if track.name), key=lambda t: t.order)
    times = [time for track in found for time in _times(track)]
    first, last = min(times, default=0.0), max(times, default=0.0)
    for track in found:
        track.tasks = [(s - first, e - first, n, f) for s, e, n, f in track.tasks]
        track.waits = [(s - first, e - first, n) for s, e, n in track.waits]
        track.messages = sorted(time - first for time in track.messages)
    return Timeline(found, last - first, data.get("otherData", {}))


def _times(track: Track) -> Iterator[float]:
    for task in track.tasks:
        yield from task[:2]
    for wait in track.waits:
        yield from wait[:2]
    yield from track.messages


def _add(tracks: dict[int, Track], event: dict[str, Any]) -> None:
    kind = event["ph"]
    if kind == "M" and event["name"] == "thread_name":
        tracks[event["tid"]].name = event["args"]["name"]
    elif kind == "M" and event["name"] == "thread_sort_index":
        tracks[event["tid"]].order = event["args"]["sort_index"]
    elif kind == "X":
        track, start, end = tracks[event["tid"]], event["ts"], event["ts"] + event["dur"]
        if event["cat"] == "task":
            track.tasks.append((start, end, event["name"], event["args"]["failed"]))
        else:
            track.waits.append((start, end, event["name"]))
    elif kind == "i" and event["cat"] == "message":
        tracks[event["tid"]].messages.append(event["ts"])


# ------------------------------------------------------------------------- picture


def _duration(micro: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if micro >= size:
            return f"{micro / size:.3g} {unit}"
    return f"{micro:.3g} µs"


def _step(length: float) -> float:
    """Between two ticks of the axis: 1, 2 or 5 times a power of ten."""
    step = 1.0
    while step * 10 <= length:
        step *= 10
    while length / step > 10:
        step *= 2
    while length / step < 4:
        step /= 2
    return step


def write_svg(timeline: Timeline, file: TextIO) -> None:
    """Draw it: a row for each thread; tasks above, waits below, messages as ticks.

    What is narrower than half a pixel is drawn together with its neighbours, so the
    picture stays small however long the trace is.
    """
    length = timeline.length or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / length
    axis = _TOP + _ROW * len(timeline.tracks) + 30
    # Those that took longest can be told apart.
    names = [name for name, *_ in rows(timeline)]
    colours = dict(zip(names, (*_COLOURS, *([_OTHER] * len(names))), strict=False))
    entries = list(_place(_legend(timeline, colours)))
    height = axis + (entries[-1][1] + 26 if entries else 0)
    write = file.write
    write(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="12">\n'
        "<style>.bg{fill:#fff}.fg{fill:#202124}.line{stroke:#dadce0}"
        "@media (prefers-color-scheme:dark){.bg{fill:#1f1f1f}.fg{fill:#e8eaed}"
        ".line{stroke:#3c4043}}</style>\n"
        f'<rect class="bg" width="{_WIDTH}" height="{height}"/>\n'
    )
    step, at = _step(length), 0.0
    while at <= length:
        x = _LEFT + at * scale
        write(
            f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{axis - 24}"/>'
            f'<text class="fg" x="{x:.1f}" y="{axis - 8}" text-anchor="middle">'
            f"{_duration(at) if at else '0'}</text>\n"
        )
        at += step
    for row, track in enumerate(timeline.tracks):
        y = _TOP + row * _ROW
        write(
            f'<text class="fg" x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">'
            f"{escape(track.name)}</text>\n"
        )
        for bar in _merge(track.waits, scale):
            _draw(write, bar, _LEFT, scale, y + _BAR + 2, 5, _WAIT, label=False)
        for start, end, name, failed in track.tasks if len(track.tasks) < 2000 else ():
            colour = _FAILED if failed else colours[name]
            what = name + (" (failed)" if failed else "")
            _draw(write, (start, end, what), _LEFT, scale, y, _BAR, colour, label=True)
        if len(track.tasks) >= 2000:
            spans = [(s, e, n) for s, e, n, _ in track.tasks]
            for bar in _merge(spans, scale):
                colour = colours.get(bar[2], _TICK)
                _draw(write, bar, _LEFT, scale, y, _BAR, colour, label=True)
        _ticks(write, track.messages, scale, y + _BAR + 8)
    for x, y, shape, colour, text in entries:
        write(
            f'<path d="M{x} {axis + y + shape[0]}v{shape[1]}" stroke="{colour}" '
            f'stroke-width="{shape[2]}"/>'
            f'<text class="fg" x="{x + 13}" y="{axis + y + 16}">{escape(text)}</text>\n'
        )
    write("</svg>\n")


# What stands for it in the legend: where it begins, how high and how wide it is.
_Shape = tuple[int, int, float]
_TASK_SHAPE, _WAIT_SHAPE, _TICK_SHAPE = (4, 14, 14.0), (9, 5, 14.0), (9, 4, 0.6)


def _legend(
    timeline: Timeline, colours: dict[str, str]
) -> Iterator[tuple[_Shape, str, str]]:
    """What is in the picture: shape, colour and what that means."""
    others = [name for name in colours if colours[name] == _OTHER]
    for name, colour in colours.items():
        if len(others) == 1 or colour != _OTHER:
            yield _TASK_SHAPE, colour, name
    if len(others) > 1:
        yield _TASK_SHAPE, _OTHER, f"{len(others)} other tasks"
    if any(failed for track in timeline.tracks for *_, failed in track.tasks):
        yield _TASK_SHAPE, _FAILED, "a task that failed"
    if any(track.waits for track in timeline.tracks):
        yield _WAIT_SHAPE, _WAIT, "the thread waits"
    if any(track.messages for track in timeline.tracks):
        yield _TICK_SHAPE, _TICK, "messages sent and received"


def _place(
    entries: Iterator[tuple[_Shape, str, str]]
) -> Iterator[tuple[int, int, _Shape, str, str]]:
    """Line by line under the axis: x and y of each."""
    x, y = _LEFT + 7, 0
    for shape, colour, text in entries:
        width = 13 + _LETTER * len(text) + 24
        if x + width > _WIDTH - _RIGHT and x > _LEFT + 7:
            x, y = _LEFT + 7, y + 22
        yield x, y, shape, colour, text
        x += width


def _merge(
    spans: list[tuple[float, float, str]], scale: float
) -> Iterator[tuple[float, float, str]]:
    """Join neighbours that would be one blot on the screen."""
    held: tuple[float, float, str] | None = None
    count = 1
    for span in sorted(spans):
        if held is None:
            held = span
        elif (span[1] - held[0]) * scale < 0.5 or (
            (span[0] - held[1]) * scale < 0.25 and (span[1] - span[0]) * scale < 0.5
        ):
            count += 1
            held = (held[0], max(held[1], span[1]), held[2])
        else:
            yield held if count == 1 else (held[0], held[1], f"{held[2]} and {count - 1} more")
            held, count = span, 1
    if held is not None:
        yield held if count == 1 else (held[0], held[1], f"{held[2]} and {count - 1} more")


def _draw(
    write: Any,
    span: tuple[float, float, str],
    left: float,
    scale: float,
    y: float,
    height: float,
    colour: str,
    *,
    label: bool,
) -> None:
    start, end, name = span
    x, width = left + start * scale, max((end - start) * scale, 0.5)
    title = f"{escape(name)}: {_duration(end - start)}"
    write(
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{height}" fill="{colour}">'
        f"<title>{title}</title></rect>\n"
    )
    if label and width > 7 * len(name) + 8:
        write(
            f'<text x="{x + 4:.1f}" y="{y + 13}" fill="#fff" pointer-events="none">'
            f"{escape(name)}</text>\n"
        )


def _ticks(write: Any, times: list[float], scale: float, y: float) -> None:
    last = -1.0
    path = []
    for time in times:
        x = _LEFT + time * scale
        if x - last >= 0.5:
            path.append(f"M{x:.1f} {y}v4")
            last = x
    if path:
        write(f'<path d="{"".join(path)}" stroke="{_TICK}" stroke-width="0.6"/>\n')


# --------------------------------------------------------------------------- table


def rows(timeline: Timeline) -> list[tuple[str, int, float, float]]:
    """(name of the task, how often it ran, seconds in all, longest in seconds), those
    that took longest first."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for track in timeline.tracks:
        for start, end, name, _ in track.tasks:
            found[name].append((end - start) / 1e6)
    table = [(name, len(all), sum(all), max(all)) for name, all in found.items()]
    return sorted(table, key=lambda row: -row[2])
