import asyncio
import json

import aiohttp
import aiohttp.http_parser
import aiohttp.http_websocket
from aiohttp import web


async def add(request: web.Request) -> web.Response:
    body = await request.json()
    return web.json_response(
        {"sum": sum(body["numbers"]), "q": request.query.getall("q")},
        headers={"X-Who": request.headers["X-Who"], "ETag": '"x"'},
    )


async def upload(request: web.Request) -> web.Response:
    sizes = {}
    async for part in await request.multipart():
        sizes[part.name] = len(await part.read(decode=True))
    return web.json_response(sizes)


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_compression()
    await response.prepare(request)
    for i in range(50):
        await response.write(b"line %d\n" % i)
    await response.write_eof()
    return response


async def talk(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data.upper())
    return socket


async def work(seed: int) -> None:
    app = web.Application()
    app.add_routes(
        [
            web.post("/add", add),
            web.post("/upload", upload),
            web.get("/stream", stream),
            web.get("/talk", talk),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await asyncio.gather(*(ask(session, seed + i) for i in range(20)))
            form = aiohttp.FormData()
            form.add_field("file", b"x" * 70_000, filename="naïve.bin")
            form.add_field("text", "abc")
            async with session.post("/upload", data=form) as response:
                assert await response.json() == {"file": 70_000, "text": 3}
            async with session.get("/stream") as response:
                assert response.headers["Transfer-Encoding"] == "chunked"
                assert (await response.text()).splitlines()[49] == "line 49"
            async with session.ws_connect("/talk") as socket:
                for i in range(50):
                    await socket.send_str(f"message {seed + i}")
                    assert await socket.receive_str(timeout=20) == f"MESSAGE {seed + i}"
            async with session.get("/missing") as response:
                assert response.status == 404
        await raw(port)
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, n: int) -> None:
    data = {"numbers": [n, 1, 2]}
    params = [("q", "a b"), ("q", "ü")]
    async with session.post("/add", json=data, params=params, headers={"X-Who": str(n)}) as got:
        assert got.status == 200 and got.headers["x-who"] == str(n)
        assert await got.json() == {"sum": n + 3, "q": ["a b", "ü"]}


async def raw(port: int) -> None:
    """What is no HTTP is refused by the parser, which is the compiled one."""
    assert aiohttp.http_parser.HttpRequestParser is not aiohttp.http_parser.HttpRequestParserPy
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /add?q=%41 HTTP/1.1\r\nHost: x\r\nX-Who: me\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 18\r\n\r\n"
        b'{"numbers": [1,2]}'
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    assert json.loads(body) == {"sum": 3, "q": ["A"]}
    writer.close()
    await writer.wait_closed()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"no HTTP at all\r\n\r\n")
    assert b"400" in await reader.readline()
    writer.close()
    await writer.wait_closed()


def use(seed: int) -> None:
    asyncio.run(work(seed))
