import asyncio
import datetime
import decimal
import struct

import asyncpg

# The types of the columns that the server below knows: a parameter of each is asked
# for, and comes back as a column.
OIDS = (20, 25, 701, 1184, 1700, 1009)  # int8, text, float8, timestamptz, numeric, text[]


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


READY = message(b"Z", b"I")


class Server:
    """As much of PostgreSQL's protocol as a client needs that sends things around."""

    def __init__(self) -> None:
        self.queries: list[bytes] = []
        self.bound: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack(">I", await reader.readexactly(4))
        startup = await reader.readexactly(length - 4)
        assert startup[:4] == b"\x00\x03\x00\x00" and b"user\x00me\x00" in startup
        writer.write(message(b"R", bytes(4)))
        for name, value in (("server_version", "16.1"), ("client_encoding", "UTF8")):
            writer.write(message(b"S", f"{name}\0{value}\0".encode()))
        writer.write(message(b"K", struct.pack(">II", 1, 2)) + READY)
        while (kind := await reader.readexactly(1)) != b"X":
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            writer.write(self.answer(kind, await reader.readexactly(length - 4)))
            await writer.drain()
        writer.close()

    def answer(self, kind: bytes, body: bytes) -> bytes:
        if kind == b"Q":  # a simple query
            self.queries.append(body)
            if b"wrong" in body:
                return message(b"E", b"SERROR\0C42601\0Msyntax error\0\0") + READY
            return message(b"C", b"DO\0") + READY
        if kind == b"D":  # describe: parameters and columns
            count = len(OIDS)
            parameters = struct.pack(f">H{count}I", count, *OIDS)
            columns = struct.pack(">H", count)
            for i, oid in enumerate(OIDS):
                columns += b"c%d\0" % i + struct.pack(">IHIhiH", 0, 0, oid, -1, -1, 1)
            return message(b"t", parameters) + message(b"T", columns)
        if kind == b"B":  # bind: formats come before the values, and after them
            at = body.index(b"\0", body.index(b"\0") + 1) + 1
            (formats,) = struct.unpack_from(">H", body, at)
            self.bound.append(body[at + 2 + 2 * formats :])
            return message(b"2")
        if kind == b"E":  # execute: what was bound, three times
            row = self.bound[-1]
            return message(b"D", row[: len(row) - 4]) * 3 + message(b"C", b"SELECT 3\0")
        return {b"P": message(b"1"), b"C": message(b"3"), b"S": READY, b"H": b""}[kind]


async def work(seed: int) -> None:
    fake = Server()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = await asyncpg.connect(
            host="127.0.0.1",
            port=port,
            user="me",
            database="db",
            password="x",
            ssl=False,
            timeout=20,
        )
        try:
            assert connection.get_server_version().major == 16
            assert await connection.execute(f"DO {seed}") == "DO"
            assert fake.queries[-1] == b"DO %d\0" % seed
            when = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
            values = (2**40 + seed, "naïve", 1.5, when, decimal.Decimal("12.50"), ["ü", None])
            statement = await connection.prepare("SELECT $1, $2, $3, $4, $5, $6")
            for _ in range(20):
                rows = await statement.fetch(*values)
                assert [tuple(row) for row in rows] == [values] * 3, rows
            assert rows[0]["c1"] == "naïve" and dict(rows[1])["c0"] == 2**40 + seed
            # The first parameter in binary, as the manual says.
            assert fake.bound[-1].startswith(
                struct.pack(">Hiq", len(OIDS), 8, 2**40 + seed)
                + struct.pack(">i", 6)
                + "naïve".encode()
            )
            assert [a.type.name for a in statement.get_attributes()][:2] == ["int8", "text"]
            try:
                await connection.execute("wrong")
            except asyncpg.PostgresSyntaxError as error:
                assert error.sqlstate == "42601" and error.message == "syntax error"
            else:
                raise AssertionError("no PostgresSyntaxError")
            try:
                await statement.fetch("text", *values[1:])
            except asyncpg.DataError as error:
                assert "$1" in str(error)
            else:
                raise AssertionError("no DataError")
        finally:
            await connection.close(timeout=20)


def use(seed: int) -> None:
    asyncio.run(work(seed))
