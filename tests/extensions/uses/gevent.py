import time

import gevent
import gevent.event
import gevent.lock
import gevent.pool
import gevent.queue
import gevent.server
import gevent.socket
import gevent.threadpool


def use(seed: int) -> None:
    try:
        cooperate(seed)
        sockets(seed)
        threads(seed)
    finally:
        gevent.get_hub().destroy(destroy_loop=True)


def cooperate(seed: int) -> None:
    # Ten sleep at the same time, and so in the time of one.
    start = time.monotonic()
    sleepers = [gevent.spawn(lambda n: (gevent.sleep(0.02), n)[1], seed + i) for i in range(10)]
    gevent.joinall(sleepers, raise_error=True)
    assert [g.value for g in sleepers] == [seed + i for i in range(10)]
    assert time.monotonic() - start < 5

    queue: gevent.queue.Queue[int | None] = gevent.queue.Queue(3)
    got: list[int] = []

    def consume() -> None:
        while (item := queue.get()) is not None:
            got.append(item)

    consumer = gevent.spawn(consume)
    for i in range(1000):
        queue.put(seed + i)
    queue.put(None)
    consumer.get(timeout=20)
    assert got == [seed + i for i in range(1000)]

    assert gevent.pool.Pool(4).map(lambda x: x * x, range(50)) == [x * x for x in range(50)]
    event = gevent.event.AsyncResult()
    gevent.spawn_later(0.005, event.set, seed)
    assert event.get(timeout=20) == seed
    try:
        with gevent.Timeout(0.01):
            gevent.sleep(20)
    except gevent.Timeout:
        pass
    else:
        raise AssertionError("no Timeout")
    killed = gevent.spawn(gevent.sleep, 20)
    gevent.sleep(0)
    killed.kill()
    assert killed.dead and isinstance(killed.value, gevent.GreenletExit)


def sockets(seed: int) -> None:
    def shout(connection: gevent.socket.socket, address: object) -> None:
        with connection, connection.makefile("rwb") as stream:
            for line in stream:
                stream.write(line.upper())
                stream.flush()

    server = gevent.server.StreamServer(("127.0.0.1", 0), shout)
    server.start()

    def client(n: int) -> bytes:
        address = ("127.0.0.1", server.server_port)
        with gevent.socket.create_connection(address) as connection:
            with connection.makefile("rwb") as stream:
                stream.write(b"client %d\n" % n)
                stream.flush()
                return bytes(stream.readline())

    try:
        clients = [gevent.spawn(client, seed + i) for i in range(10)]
        gevent.joinall(clients, timeout=20, raise_error=True)
        assert [c.value for c in clients] == [b"CLIENT %d\n" % (seed + i) for i in range(10)]
    finally:
        server.stop()


def threads(seed: int) -> None:
    pool = gevent.threadpool.ThreadPool(2)
    try:
        results = [pool.spawn(divmod, seed + 100 + i, 7) for i in range(20)]
        assert [r.get(timeout=20) for r in results] == [
            divmod(seed + 100 + i, 7) for i in range(20)
        ]
    finally:
        pool.kill()
