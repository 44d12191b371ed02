import datetime
import io

import msgpack
import msgpack._cmsgpack


def use(seed: int) -> None:
    assert msgpack.Packer is msgpack._cmsgpack.Packer  # not the pure Python fallback
    # By hand from the specification: a map, a fixstr, a positive fixint, nil.
    assert msgpack.packb({"a": 1, "b": None}) == b"\x82\xa1a\x01\xa1b\xc0"
    assert msgpack.packb([-1, 300, 1.5]) == b"\x93\xff\xcd\x01\x2c\xcb\x3f\xf8" + bytes(6)
    assert msgpack.packb("é" * 20) == b"\xd9\x28" + "é".encode() * 20

    rows = [
        {"id": seed * 1000 + i, "text": f"row {i} ü", "raw": bytes([i % 256]) * 9, "x": i / 3}
        for i in range(2000)
    ]
    assert msgpack.unpackb(msgpack.packb(rows)) == rows

    packer = msgpack.Packer(default=lambda z: msgpack.ExtType(7, repr(z).encode()))
    stream = io.BytesIO(b"".join(packer.pack([i, complex(i, seed)]) for i in range(200)))
    unpacker = msgpack.Unpacker(
        stream, ext_hook=lambda code, data: (code, complex(data.decode())), read_size=64
    )
    assert list(unpacker) == [[i, (7, complex(i, seed))] for i in range(200)]

    feeder = msgpack.Unpacker(max_buffer_size=1 << 20)
    data = msgpack.packb({"key": list(range(100))})
    for i in range(len(data)):
        feeder.feed(data[i : i + 1])
    assert feeder.unpack() == {"key": list(range(100))}

    moment = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    packed = msgpack.packb(moment, datetime=True)
    assert packed == b"\xd6\xff" + (1709208000).to_bytes(4)
    assert msgpack.unpackb(packed, timestamp=3) == moment
    try:
        msgpack.unpackb(b"\x92\x01")
    except ValueError as error:
        assert "incomplete" in str(error)
    else:
        raise AssertionError("no ValueError")
