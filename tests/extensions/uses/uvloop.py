import asyncio
import os
import signal
import socket
import sys
import tempfile

import uvloop


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def client(port: int, n: int) -> list[bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for i in range(20):
        writer.write(b"client %d line %d\n" % (n, i))
        answers.append(await reader.readline())
    writer.close()
    await writer.wait_closed()
    return answers


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data[::-1], address)  # type: ignore[attr-defined]


async def work(seed: int) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uvloop.Loop)
    server = await asyncio.start_server(shout, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answers = await asyncio.gather(*(client(port, seed + i) for i in range(10)))
    for i, lines in enumerate(answers):
        assert lines == [b"CLIENT %d LINE %d\n" % (seed + i, j) for j in range(20)]

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        unix = await asyncio.start_unix_server(shout, path)
        async with unix:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"naive\n")
            assert await reader.readline() == b"NAIVE\n"
            writer.close()
            await writer.wait_closed()

    transport, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        peer.connect(transport.get_extra_info("sockname"))
        await loop.sock_sendall(peer, b"abc%d" % seed)
        answer = await asyncio.wait_for(loop.sock_recv(peer, 100), 20)
        assert answer == (b"abc%d" % seed)[::-1]
    transport.close()

    order: list[int] = []
    loop.call_soon(order.append, 0)
    await asyncio.sleep(0)
    assert order == [0]
    loop.call_later(0.02, order.append, 2)
    loop.call_later(0.01, order.append, 1)
    assert await loop.run_in_executor(None, sum, range(seed + 10)) == sum(range(seed + 10))
    while len(order) < 3:
        await asyncio.sleep(0.01)
    # A thread that is held up between the calls starts the second clock late.
    assert sorted(order) == [0, 1, 2]
    addresses = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert addresses[0][4] == ("127.0.0.1", 80)
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(20)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no TimeoutError")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", f"print({seed} + 1)", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (process.returncode, int(output)) == (0, seed + 1)


def use(seed: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(seed))
    assert signal.getsignal(signal.SIGINT) == before
