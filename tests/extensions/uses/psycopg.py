import datetime
import decimal
import uuid

import psycopg
from psycopg import pq, sql
from psycopg.adapt import PyFormat, Transformer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Json

TYPES = psycopg.postgres.types


def use(seed: int) -> None:
    assert pq.__impl__ == "binary" and pq.version() >= 150000
    assert Transformer.__module__ == "psycopg_binary._psycopg"
    dumped(seed)
    loaded(seed)

    query = sql.SQL("SELECT {} FROM {} WHERE {} = {}").format(
        sql.SQL(", ").join([sql.Identifier("a"), sql.Identifier('b"c')]),
        sql.Identifier("schema", "table"),
        sql.Identifier("id"),
        sql.Literal(seed),
    )
    assert query.as_string(None) == (
        f'SELECT "a", "b""c" FROM "schema"."table" WHERE "id" = {seed}'
    )
    assert sql.Literal("it's").as_string(None) == "'it''s'"
    assert pq.Escaping().escape_string(b"it's") == b"it''s"
    assert pq.Escaping().unescape_bytea(rb"\x00ff41") == b"\x00\xffA"
    info = make_conninfo("dbname=test user='a b'", port=5432)
    assert conninfo_to_dict(info) == {"dbname": "test", "user": "a b", "port": "5432"}
    assert {option.keyword for option in pq.Conninfo.get_defaults()} >= {b"host", b"port"}

    # Nobody listens there.
    connection = pq.PGconn.connect(b"host=127.0.0.1 port=1 connect_timeout=5")
    assert connection.status == pq.ConnStatus.BAD
    assert b"refused" in connection.error_message.lower(), connection.error_message
    connection.finish()
    try:
        psycopg.connect("host=127.0.0.1 port=1 connect_timeout=5")
    except psycopg.OperationalError as error:
        assert "refused" in str(error).lower()
    else:
        raise AssertionError("no OperationalError")
    assert issubclass(psycopg.errors.lookup("23505"), psycopg.IntegrityError)


def dumped(seed: int) -> None:
    """Python's values as text and in binary."""
    there = Transformer()
    texts = [
        there.as_literal(value)
        for value in (seed, 1.5, None, True, "naïve", decimal.Decimal("1.50"), [1, None])
    ]
    assert texts == [
        b"%d" % seed,
        b"1.5",
        b"NULL",
        b"true",
        "'naïve'".encode(),
        b"1.50",
        b"'{1,NULL}'::int2[]",
    ], texts
    values = [2**40 + seed, "ü", b"\x00\xff", 1.5, datetime.date(2024, 2, 29), uuid.UUID(int=7)]
    binary = there.dump_sequence(values, [PyFormat.BINARY] * len(values))
    assert binary == [
        (2**40 + seed).to_bytes(8),
        "ü".encode(),
        b"\x00\xff",
        b"\x3f\xf8" + bytes(6),
        (8825).to_bytes(4),  # days since 2000
        bytes(15) + b"\x07",
    ], binary
    assert there.types is not None and there.types[0] == TYPES["int8"].oid
    assert there.dump_sequence([Json({"a": [1]})], [PyFormat.TEXT]) == [b'{"a": [1]}']


def loaded(seed: int) -> None:
    """What a server sends, as Python's values."""
    here = Transformer()
    names = (
        "int4",
        "float8",
        "bool",
        "text",
        "numeric",
        "timestamptz",
        "jsonb",
        "bytea",
        "date",
    )
    here.set_loader_types([TYPES[name].oid for name in names], pq.Format.TEXT)
    when = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    for i in range(500):
        row = [
            b"%d" % (seed + i),
            b"2.5",
            b"t",
            "ü".encode(),
            b"1.50",
            b"2024-02-29 12:00:00+00",
            b'{"a": [1, null]}',
            rb"\x00ff",
            b"2024-02-29",
        ]
        assert here.load_sequence(row) == (
            seed + i,
            2.5,
            True,
            "ü",
            decimal.Decimal("1.50"),
            when,
            {"a": [1, None]},
            b"\x00\xff",
            datetime.date(2024, 2, 29),
        )
    here.set_loader_types([TYPES["int8"].oid, TYPES["float8"].oid], pq.Format.BINARY)
    row = [(2**40).to_bytes(8), b"\x3f\xf8" + bytes(6)]
    assert here.load_sequence(row) == (2**40, 1.5)
    arrays = Transformer()
    arrays.set_loader_types([TYPES["int4"].array_oid], pq.Format.TEXT)
    assert arrays.load_sequence([b"{{1,2},{NULL,4}}"]) == ([[1, 2], [None, 4]],)
    try:
        arrays.set_loader_types([TYPES["int4"].oid], pq.Format.TEXT)
        arrays.load_sequence([b"12x"])
    except ValueError:
        pass
    else:
        raise AssertionError("no ValueError")
