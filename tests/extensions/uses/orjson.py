import dataclasses
import datetime
import enum
import json
import uuid

import orjson


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float
    colour: Colour


def use(seed: int) -> None:
    rows = [
        {"id": seed + i, "name": f"naïve {i} 😀", "share": i / 8, "tags": ["a", None, True]}
        for i in range(2000)
    ]
    data = orjson.dumps(rows)
    assert json.loads(data) == rows and orjson.loads(data) == rows
    assert orjson.loads(json.dumps(rows, indent=2)) == rows

    assert orjson.dumps(Point(seed, 0.5, Colour.RED)) == (
        b'{"x":%d,"y":0.5,"colour":"red"}' % seed
    )
    moment = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
    assert orjson.dumps([moment, uuid.UUID(int=1)], option=orjson.OPT_UTC_Z) == (
        b'["2024-02-29T12:30:00Z","00000000-0000-0000-0000-000000000001"]'
    )
    assert orjson.dumps({"b": 1, "a": 2}, option=orjson.OPT_SORT_KEYS) == b'{"a":2,"b":1}'
    assert orjson.dumps({1, 2}, default=sorted) == b"[1,2]"
    try:
        orjson.loads(b'{"open": [1, 2')
    except orjson.JSONDecodeError as error:
        assert isinstance(error, json.JSONDecodeError)
    else:
        raise AssertionError("no JSONDecodeError")
