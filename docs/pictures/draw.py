"""Draw the pictures of the design pages, as SVG files beside this one.

    python docs/pictures/draw.py

Boxes are on a grid; that of the floors is drawn from tools/rooms.toml. Each picture has a
light ground of its own, so that it can be read on a dark page, too.
"""

import tomllib
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOMS = HERE.parents[1] / "tools" / "rooms.toml"
WIDTH = 760
INK, PALE, LINE = "#1c2329", "#5f6b75", "#8a97a1"
PLAIN, OURS, WARM, SHARED = "#eef2f4", "#d5efec", "#fbead0", "#e6e3f8"


class Picture:
    def __init__(self, title, height):
        self.title, self.height, self.parts = title, height, []

    def text(self, x, y, content, size=13, anchor="middle", colour=INK, bold=False):
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"'
            f' fill="{colour}"{weight}>{escape(content)}</text>'
        )

    def box(self, x, y, width, height, *lines, fill=PLAIN, dashed=False):
        """A box with lines of text in its middle, the first of them bold."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6"'
            f' fill="{fill}" stroke="{LINE}"{dash}/>'
        )
        top = y + height / 2 - 9 * (len(lines) - 1) + 5
        for i, line in enumerate(lines):
            self.text(
                x + width / 2, top + 18 * i, line, 12 if i else 13,
                colour=PALE if i else INK, bold=i == 0,
            )

    def frame(self, x, y, width, height, label):
        """A dashed box around others, with its name above them."""
        self.box(x, y, width, height, fill="none", dashed=True)
        self.text(x + 10, y + 18, label, 12, "start", PALE)

    def arrow(self, x1, y1, x2, y2, label="", above=6, dashed=False):
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}"'
            f' stroke-width="1.4" marker-end="url(#tip)"{dash}/>'
        )
        if label:
            self.text((x1 + x2) / 2, (y1 + y2) / 2 - above, label, 12, colour=PALE)

    def write(self, name):
        (HERE / f"{name}.svg").write_text(self.svg())

    def svg(self):
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{self.height}"'
            f' viewBox="0 0 {WIDTH} {self.height}" role="img" font-family="system-ui,'
            ' -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
        )
        tip = (
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
            ' markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"'
            f' fill="{INK}"/></marker></defs>'
        )
        ground = f'<rect width="{WIDTH}" height="{self.height}" rx="8" fill="#ffffff"/>'
        title = f"<title>{escape(self.title)}</title>"
        return "\n".join([head, title, tip, ground, *self.parts, "</svg>", ""])


def waiting():
    p = Picture("A wait: spin, park, claimed by a server, woken", 230)
    p.box(20, 70, 130, 60, "call", "get(), recv(), …")
    p.box(210, 70, 130, 60, "spin", "a few µs", fill=WARM)
    p.box(400, 70, 130, 60, "park", "no CPU", fill=PLAIN)
    p.box(600, 70, 140, 60, "go on", "take the GIL", fill=OURS)
    p.arrow(150, 100, 208, 100, "not yet")
    p.arrow(340, 100, 398, 100, "still not")
    p.arrow(530, 100, 598, 100, "woken")
    p.box(300, 165, 240, 50, "whoever serves", "claims it, then wakes it", fill=OURS)
    p.arrow(420, 165, 455, 132)
    p.parts.append(
        f'<path d="M275 70C320 18 620 18 668 66" fill="none" stroke="{INK}"'
        ' stroke-width="1.4" marker-end="url(#tip)"/>'
    )
    p.text(470, 26, "served while it spins: nobody has to be woken", 12, colour=PALE)
    p.arrow(300, 188, 152, 132, dashed=True)
    p.text(120, 165, "at once, if it can be", 12, colour=PALE)
    return p


def transfer():
    p = Picture("How an object crosses: copied, shared or moved", 300)
    p.frame(16, 16, 190, 268, "interpreter A")
    p.frame(554, 16, 190, 268, "interpreter B")
    p.text(380, 34, "memory of the process", 12, colour=PALE)
    p.box(36, 50, 150, 52, "object", "dict, instance, …")
    p.box(300, 50, 160, 52, "message", "flat, counted", fill=SHARED)
    p.box(574, 50, 150, 52, "another object", "equal to it")
    p.arrow(186, 76, 298, 76, "encode")
    p.arrow(460, 76, 572, 76, "decode")
    p.box(36, 130, 150, 52, "memoryview")
    p.box(300, 130, 160, 52, "the bytes", "held till the last view", fill=SHARED)
    p.box(574, 130, 150, 52, "memoryview")
    p.arrow(186, 156, 298, 156, "shared")
    p.arrow(574, 156, 462, 156, "shared")
    p.box(36, 210, 150, 52, "array", "empty afterwards", dashed=True)
    p.box(300, 210, 160, 52, "its memory", fill=SHARED)
    p.box(574, 210, 150, 52, "array", "owns it now")
    p.arrow(186, 236, 298, 236, "moved", dashed=True)
    p.arrow(574, 236, 462, 236, "moved")
    return p


def frozen():
    p = Picture("A frozen graph is read by all interpreters", 270)
    p.box(20, 100, 150, 60, "ordinary objects", "of one interpreter")
    p.arrow(170, 130, 268, 130, "freeze, once")
    p.frame(270, 40, 220, 190, "graph: immortal, read-only")
    p.box(300, 76, 160, 40, "mapping", fill=SHARED)
    p.box(300, 146, 70, 40, "tuple", fill=SHARED)
    p.box(390, 146, 70, 40, "str", fill=SHARED)
    p.arrow(350, 116, 337, 144)
    p.arrow(410, 116, 423, 144)
    p.arrow(370, 166, 388, 166)
    for y, name in ((30, "main"), (108, "interpreter 1"), (186, "interpreter 2")):
        p.box(590, y, 150, 56, name, "get() pins", fill=OURS)
    p.arrow(590, 58, 462, 92)
    p.arrow(590, 134, 462, 98)
    p.arrow(590, 208, 462, 106)
    return p


def isolation():
    p = Picture("Each interpreter has its own copy of a module's data", 300)
    p.box(270, 20, 220, 46, "_core.so", "the file, as installed")
    for x, name, kind in (
        (20, "main", "the original"),
        (270, "interpreter 1", "private copy"),
        (520, "interpreter 2", "private copy"),
    ):
        p.frame(x, 110, 220, 170, name)
        p.box(x + 20, 140, 180, 40, kind, fill=OURS)
        p.box(x + 20, 188, 180, 36, "static data: its own", fill=WARM)
        p.box(x + 20, 232, 180, 36, "code: the same pages", fill=SHARED)
        p.arrow(380 if x == 270 else (310 if x < 270 else 450), 66, x + 110, 108)
    return p


def select():
    p = Picture("One waiter in many lines", 260)
    for y, name in ((30, "jobs (queue)"), (105, "answers (channel)"), (180, "after(2.0)")):
        p.box(20, y, 150, 50, name)
        p.box(230, y + 5, 90, 40, "other", fill=PLAIN)
        p.box(370, y + 5, 90, 40, "node", fill=OURS)
        p.arrow(170, y + 25, 228, y + 25)
        p.arrow(320, y + 25, 368, y + 25)
    p.box(570, 95, 170, 70, "waiter", "one state word", fill=WARM)
    p.arrow(460, 55, 568, 112)
    p.arrow(460, 130, 568, 130)
    p.arrow(460, 205, 568, 148)
    p.text(655, 192, "claimed by one", 12, colour=PALE)
    p.text(655, 210, "compare-and-swap", 12, colour=PALE)
    p.text(415, 248, "lines, first come, first served", 12, colour=PALE)
    return p


def executors():
    p = Picture("A task on its way through a pool", 260)
    p.box(20, 40, 140, 56, "submit()", "encodes the call")
    p.frame(220, 16, 330, 216, "pool: belongs to the process")
    p.box(240, 46, 130, 56, "queue of jobs", fill=SHARED)
    for i in range(3):
        p.box(420, 42 + 62 * i, 110, 50, f"worker {i + 1}", "its own GIL", fill=OURS)
        p.arrow(370, 74, 418, 67 + 62 * i)
    p.arrow(160, 68, 238, 68, "job")
    p.box(600, 96, 140, 56, "job", "outcome, encoded", fill=SHARED)
    for i in range(3):
        p.arrow(530, 67 + 62 * i, 598, 116 + 8 * i)
    p.box(20, 160, 140, 56, "Future", "decoded by who asks")
    p.parts.append(
        f'<path d="M670 152C670 262 300 252 162 206" fill="none" stroke="{INK}"'
        ' stroke-width="1.4" marker-end="url(#tip)"/>'
    )
    p.text(300, 222, "an event, waited for", 12, colour=PALE)
    return p


def needed(rooms, name):
    """The rooms that `name` may use, but for those that it may use through another one
    of them: what is left has an arrow."""
    uses = set(rooms[name]["uses"])
    return uses - {low for high in uses for low in rooms[high]["uses"]}


def floors():
    with open(ROOMS, "rb") as f:
        rooms = tomllib.load(f)["rooms"]
    levels = {}
    for name, room in rooms.items():
        levels.setdefault(room["floor"], []).append(name)
    step, width, height = 62, 128, 34
    p = Picture("The rooms of ext/: each uses rooms below it", step * len(levels) + 20)
    top = {floor: 20 + step * i for i, floor in enumerate(sorted(levels, reverse=True))}
    place = {}
    for floor, names in levels.items():
        for i, name in enumerate(names):
            x = 410 + (i - (len(names) - 1) / 2) * (width + 30) - width / 2
            place[name] = x, top[floor]
    for name, (x, y) in place.items():
        for low in sorted(needed(rooms, name)):
            to = place[low]
            p.arrow(x + width / 2, y + height, to[0] + width / 2, to[1] - 1)
    for floor, y in top.items():
        p.text(36, y + 22, str(floor), 12, colour=PALE)
    fills = {"base": WARM, "cpython": WARM, "wait": OURS, "wire": OURS, "module": SHARED}
    for name, (x, y) in place.items():
        p.box(x, y, width, height, name, fill=fills.get(name, PLAIN))
    x, y = place["base"]
    p.text(x + width + 16, y + 22, "used by all", 12, "start", PALE)
    return p


PICTURES = {
    "floors": floors,
    "waiting": waiting,
    "transfer": transfer,
    "frozen": frozen,
    "isolation": isolation,
    "select": select,
    "executors": executors,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        draw().write(name)
