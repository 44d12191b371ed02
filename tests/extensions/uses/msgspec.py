import datetime
import json
from typing import Annotated, Literal

import msgspec


class Item(msgspec.Struct, rename="camel", omit_defaults=True):
    item_id: int
    price: float
    tags: list[str] = []


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square", frozen=True):
    side: Annotated[float, msgspec.Meta(gt=0)]


class Scene(msgspec.Struct):
    shapes: list[Circle | Square]
    when: datetime.datetime
    mode: Literal["a", "b"] = "a"
    extra: dict[str, int | None] = {}


def use(seed: int) -> None:
    items = [Item(seed + i, i / 4, ["x"] * (i % 2)) for i in range(1000)]
    text = msgspec.json.encode(items)
    assert json.loads(text)[:2] == [
        {"itemId": seed, "price": 0.0},
        {"itemId": seed + 1, "price": 0.25, "tags": ["x"]},
    ]
    assert msgspec.json.decode(text, type=list[Item]) == items
    packed = msgspec.msgpack.encode({"a": 1, "b": None})
    assert packed == b"\x82\xa1a\x01\xa1b\xc0"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(items), type=list[Item]) == items

    source = (
        b'{"shapes": [{"type": "circle", "radius": 2}, {"type": "square", "side": 1.5}],'
        b'"when": "2024-02-29T12:00:00Z", "extra": {"n": %d, "none": null}}' % seed
    )
    decoder = msgspec.json.Decoder(Scene)
    scene = decoder.decode(source)
    assert scene.shapes == [Circle(2.0), Square(1.5)] and scene.extra == {
        "n": seed,
        "none": None,
    }
    assert scene.when == datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    for bad, words in (
        (source.replace(b"1.5", b"-1"), "$.shapes[1].side"),
        (source.replace(b"circle", b"cone"), "Invalid value 'cone'"),
        (source[:-1], "truncated"),
    ):
        try:
            decoder.decode(bad)
        except msgspec.DecodeError as error:
            assert words in str(error), error
        else:
            raise AssertionError("no DecodeError")

    made = msgspec.defstruct("Made", [("x", int), ("y", str, "why")])
    assert msgspec.convert({"x": "7"}, made, strict=False).y == "why"
    assert msgspec.to_builtins(made(seed)) == {"x": seed, "y": "why"}
    assert hash(Square(2.0)) == hash(Square(2.0)) and Square(1.0) != Square(2.0)
    assert msgspec.json.encode([1j, {2}], enc_hook=str) == b'["1j",[2]]'
    schema = msgspec.json.schema(Item)
    assert schema["$defs"]["Item"]["required"] == ["itemId", "price"]
    assert msgspec.structs.replace(items[0], price=9.0).price == 9.0
    assert msgspec.json.format(b'{"a":[1]}', indent=1) == b'{\n "a": [\n  1\n ]\n}'
