"""The objects that the theme `transfer` sends."""

import json
import random
from dataclasses import dataclass

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Order:
    """An instance of a class that can be imported: pickled by name."""

    number: int
    price: float
    customer: str
    lines: tuple


def word(chance):
    return "".join(chance.choices(ALPHABET, k=chance.randrange(4, 12)))


def record(chance, number):
    return {
        "id": number,
        "name": word(chance),
        "score": round(chance.random() * 100, 3),
        "active": chance.random() < 0.5,
        "parent": None,
        "tags": [word(chance), word(chance)],
        "at": {"x": chance.randrange(100_000), "y": chance.randrange(100_000)},
    }


def document(records):
    """A document as a parser gives it: keys are shared, other strings are not."""
    chance = random.Random(1)
    return json.loads(json.dumps([record(chance, n) for n in range(records)]))


def orders(count):
    """Instances of a dataclass. Each has parts of its own."""
    chance = random.Random(2)
    return [
        Order(
            chance.randrange(2**31),
            chance.random() * 1000,
            word(chance),
            (chance.randrange(100_000), chance.randrange(100_000)),
        )
        for _ in range(count)
    ]


def mapping(count):
    return {f"key{n}": n for n in range(count)}


def integers(count):
    """Ints of all sizes that 31 bits have; hardly one is a small one."""
    chance = random.Random(3)
    return [chance.randrange(2**31) for _ in range(count)]
