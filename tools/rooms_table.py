"""Print the table of rooms in ARCHITECTURE.md, from tools/rooms.toml."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def rows(path=ROOT / "tools" / "rooms.toml"):
    """The lines (list of str) of the Markdown table for the rooms in `path`, the highest
    floor first."""
    with open(path, "rb") as f:
        rooms = tomllib.load(f)["rooms"]
    lines = []
    for name, room in sorted(rooms.items(), key=lambda item: -item[1]["floor"]):
        uses = ", ".join(room["uses"]) or "–"
        if len(room["uses"]) == len(rooms) - 2:
            uses = "all"
        doors = ", ".join(f"`{door}`" for door in room["doors"]) or "–"
        lines.append(f"| {room['floor']} | `{name}` | {room['job']} | {uses} | {doors} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
