"""A class that every interpreter can import, for frozen.py."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    name: str
    at: tuple
