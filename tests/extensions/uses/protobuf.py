import uuid
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    struct_pb2,
    text_format,
    timestamp_pb2,
)
from google.protobuf.internal import api_implementation
from google.protobuf.message import DecodeError

Field = descriptor_pb2.FieldDescriptorProto


def make_class(pool: descriptor_pool.DescriptorPool, package: str) -> Any:
    """What protoc would have generated: a message Person, in a pool."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    person = file.message_type.add(name="Person")
    for number, (name, kind, label) in enumerate(
        (
            ("id", Field.TYPE_INT32, Field.LABEL_OPTIONAL),
            ("name", Field.TYPE_STRING, Field.LABEL_OPTIONAL),
            ("scores", Field.TYPE_DOUBLE, Field.LABEL_REPEATED),
            ("friends", Field.TYPE_MESSAGE, Field.LABEL_REPEATED),
            ("counts", Field.TYPE_MESSAGE, Field.LABEL_REPEATED),
        ),
        1,
    ):
        field = person.field.add(name=name, number=number, type=kind, label=label)
        if name == "friends":
            field.type_name = f".{package}.Person"
        elif name == "counts":
            field.type_name = f".{package}.Person.CountsEntry"
    entry = person.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=Field.TYPE_INT64, label=Field.LABEL_OPTIONAL)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Person"))


def use(seed: int) -> None:
    assert api_implementation.Type() == "upb"
    Person = make_class(descriptor_pool.DescriptorPool(), "atoll.test")
    # By hand, from the description of the wire format.
    assert Person(id=150, name="ü").SerializeToString() == b"\x08\x96\x01\x12\x02\xc3\xbc"
    assert Person.FromString(b"\x1a\x08" + bytes(6) + b"\xf0\x3f").scores == [1.0]

    person = Person(id=seed, name="Ann", scores=[i / 4 for i in range(100)])
    for i in range(300):
        person.friends.add(id=i, name=f"friend {i}").counts["x"] = i
    person.counts["big"] = 2**40
    data = person.SerializeToString(deterministic=True)
    again = Person.FromString(data)
    assert again == person and again.friends[7].counts["x"] == 7
    assert sum(friend.id for friend in again.friends) == 299 * 150
    del again.friends[1:]
    again.friends[0].MergeFrom(Person(name="merged"))
    assert [f.name for f in again.friends] == ["merged"] and again != person
    copy = Person()
    copy.CopyFrom(person)
    copy.ClearField("friends")
    assert not copy.friends and len(person.friends) == 300

    small = Person(id=seed + 1, name="naïve", counts={"a": 1})
    assert json_format.MessageToDict(small) == {
        "id": seed + 1,
        "name": "naïve",
        "counts": {"a": "1"},
    }
    assert json_format.Parse(json_format.MessageToJson(small), Person()) == small
    assert text_format.Parse(text_format.MessageToString(small), Person()) == small
    moment = timestamp_pb2.Timestamp()
    moment.FromJsonString("2024-02-29T12:00:00Z")
    assert moment.seconds == 1709208000
    struct = struct_pb2.Struct()
    struct.update({"a": [1, {"b": None}]})
    wrapped = any_pb2.Any()
    wrapped.Pack(struct)
    back = struct_pb2.Struct()
    assert wrapped.Unpack(back) and back["a"][0] == 1

    # The pool of the process, under a name that nobody else has.
    default = make_class(descriptor_pool.Default(), f"atoll.u{uuid.uuid4().hex}")
    assert default(id=3).id == 3 and default.DESCRIPTOR.fields_by_name["name"].number == 2
    for action, error in (
        (lambda: Person(id="x"), TypeError),
        (lambda: Person(id=2**31), ValueError),
        (lambda: Person.FromString(b"\x12\x05ab"), DecodeError),
    ):
        try:
            action()
        except error:
            pass
        else:
            raise AssertionError(f"no {error.__name__}")
