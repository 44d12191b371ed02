import datetime
import re
import uuid

import bson
import pymongo
import pymongo.errors
from bson import _cbson, json_util
from bson.codec_options import CodecOptions, TypeEncoder, TypeRegistry
from bson.raw_bson import RawBSONDocument
from pymongo import _cmessage


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


class CelsiusEncoder(TypeEncoder):
    python_type = Celsius

    def transform_python(self, value: Celsius) -> float:
        return value.degrees


def use(seed: int) -> None:
    assert bson.has_c() and pymongo.has_c() and _cbson and _cmessage
    # By hand, from the specification.
    assert bson.encode({"hello": "world"}) == (
        b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00"
    )
    assert bson.decode(b"\x0c\x00\x00\x00\x10n\x00\x05\x00\x00\x00\x00") == {"n": 5}

    document = {
        "_id": bson.ObjectId("65e06d80" + "00" * 8),
        "rows": [{"id": seed + i, "name": f"naïve {i}", "x": i / 4} for i in range(1000)],
        "when": datetime.datetime(2024, 2, 29, 12, 0, 0, 5000),
        "big": bson.Int64(2**40),
        "none": None,
        "raw": b"\x00\x01",
        "pattern": bson.Regex("a.c", re.IGNORECASE),
        "code": bson.Code("f()", {"seed": seed}),
        "price": bson.Decimal128("12.50"),
        "key": bson.Binary.from_uuid(uuid.UUID(int=seed)),
        "stamp": bson.Timestamp(1709208000, 1),
    }
    data = bson.encode(document)
    assert int.from_bytes(data[:4], "little") == len(data) and data[-1] == 0
    assert bson.decode(data) == document
    aware = bson.decode(data, CodecOptions(tz_aware=True))
    assert aware["when"] == document["when"].replace(tzinfo=datetime.UTC)
    assert aware["_id"].generation_time == datetime.datetime(
        2024, 2, 29, 11, 41, 52, tzinfo=datetime.UTC
    )
    raw = RawBSONDocument(data)
    assert raw["rows"][7]["id"] == seed + 7 and raw.raw == data
    assert json_util.loads(json_util.dumps(document["when"])).year == 2024
    assert list(bson.decode_iter(bson.encode({"a": 1}) * 3)) == [{"a": 1}] * 3
    assert len({bson.ObjectId() for _ in range(1000)}) == 1000

    options = CodecOptions(type_registry=TypeRegistry([CelsiusEncoder()]))
    assert bson.decode(bson.encode({"t": Celsius(20.5)}, codec_options=options)) == {"t": 20.5}
    for action, error in (
        (lambda: bson.encode({"x": object()}), bson.errors.InvalidDocument),
        (lambda: bson.encode({"x": 2**64}), OverflowError),
        (lambda: bson.decode(data[:-5]), bson.errors.InvalidBSON),
    ):
        try:
            action()
        except error:
            pass
        else:
            raise AssertionError(f"no {error.__name__}")

    # Nobody listens there: the client says so, in time.
    with pymongo.MongoClient(
        "mongodb://127.0.0.1:1", connect=False, serverSelectionTimeoutMS=50
    ) as client:
        try:
            client.test.things.insert_one({"seed": seed})
        except pymongo.errors.ServerSelectionTimeoutError as timeout:
            assert "127.0.0.1:1" in str(timeout)
        else:
            raise AssertionError("no ServerSelectionTimeoutError")
