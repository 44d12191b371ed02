import os
import tempfile
import threading

import zmq
import zmq.utils.z85


def use(seed: int) -> None:
    with zmq.Context() as context:
        inproc(context, seed)
        with tempfile.TemporaryDirectory() as folder:
            ipc(context, os.path.join(folder, "socket"), seed)
        keys()


def inproc(context: zmq.Context, seed: int) -> None:
    """A server in a thread, asked a thousand times."""
    server = context.socket(zmq.REP)
    server.bind(f"inproc://adder-{seed}")

    def serve() -> None:
        with server:
            while (number := int(server.recv())) >= 0:
                server.send(b"%d" % (number + 1))
            server.send(b"bye")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with context.socket(zmq.REQ) as client:
            client.connect(f"inproc://adder-{seed}")
            for i in range(1000):
                client.send(b"%d" % (seed + i))
                assert int(client.recv()) == seed + i + 1
            client.send(b"-1")
            assert client.recv() == b"bye"
    finally:
        thread.join(20)


def ipc(context: zmq.Context, path: str, seed: int) -> None:
    with context.socket(zmq.PULL) as pull, context.socket(zmq.PUSH) as push:
        pull.bind(f"ipc://{path}")
        push.connect(f"ipc://{path}")
        poller = zmq.Poller()
        poller.register(pull, zmq.POLLIN)
        assert poller.poll(0) == []
        big = bytes(range(256)) * 1000
        for i in range(100):
            push.send_multipart([b"%d" % (seed + i), big], copy=i % 2 == 0)
        for i in range(100):
            assert poller.poll(20_000) == [(pull, zmq.POLLIN)]
            number, data = pull.recv_multipart(copy=i % 2 == 0)
            assert int(bytes(number)) == seed + i
            assert bytes(data) == big
        push.send_json({"seed": seed})
        assert pull.recv_json() == {"seed": seed}
        push.send_pyobj([seed, "ü"])
        assert pull.recv_pyobj() == [seed, "ü"]
        try:
            pull.recv(zmq.NOBLOCK)
        except zmq.Again:
            pass
        else:
            raise AssertionError("no Again")
    with context.socket(zmq.PUB) as pub, context.socket(zmq.SUB) as sub:
        port = pub.bind_to_random_port("tcp://127.0.0.1")
        sub.setsockopt(zmq.SUBSCRIBE, b"yes")
        sub.setsockopt(zmq.RCVTIMEO, 20)
        sub.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(500):  # what is sent before it has connected is lost
            pub.send(b"no")
            pub.send(b"yes%d" % seed)
            try:
                assert sub.recv() == b"yes%d" % seed
                break
            except zmq.Again:
                pass
        else:
            raise AssertionError("nothing arrived")


def keys() -> None:
    assert zmq.utils.z85.encode(bytes.fromhex("864fd26fb559f75b")) == b"HelloWorld"
    if zmq.has("curve"):
        public, secret = zmq.curve_keypair()
        assert zmq.curve_public(secret) == public
