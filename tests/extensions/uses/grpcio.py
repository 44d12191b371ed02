import concurrent.futures
import threading
from collections.abc import Iterator

import grpc


def add(request: bytes, context: grpc.ServicerContext) -> bytes:
    if request == b"bad":
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "it is bad")
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata((("who", metadata["who"]),))
    return b"%d" % (int(request) + 1)


def count(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for i in range(int(request)):
        yield b"%d" % i


def total(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(int(request) for request in requests)


def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield request[::-1]


def waits(request: bytes, context: grpc.ServicerContext) -> bytes:
    ended = threading.Event()
    context.add_callback(ended.set)
    ended.wait(20)
    return b""


HANDLERS = {
    "Add": grpc.unary_unary_rpc_method_handler(add),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Waits": grpc.unary_unary_rpc_method_handler(waits),
}


def use(seed: int) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("atoll.Test", HANDLERS),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                talk(channel, seed)
        finally:
            server.stop(5).wait(20)
            server.wait_for_termination(20)


def talk(channel: grpc.Channel, seed: int) -> None:
    ask = channel.unary_unary("/atoll.Test/Add")
    for i in range(30):
        answer, call = ask.with_call(
            b"%d" % (seed + i), timeout=20, metadata=(("who", f"me{i}"),), wait_for_ready=True
        )
        assert int(answer) == seed + i + 1
        assert dict(call.trailing_metadata())["who"] == f"me{i}"
    futures = [ask.future(b"%d" % i, timeout=20, metadata=(("who", "x"),)) for i in range(20)]
    assert [int(future.result()) for future in futures] == list(range(1, 21))
    counted = channel.unary_stream("/atoll.Test/Count")(b"50", timeout=20)
    assert [int(item) for item in counted] == list(range(50))
    summed = channel.stream_unary("/atoll.Test/Total")
    assert int(summed((b"%d" % i for i in range(100)), timeout=20)) == 4950
    both = channel.stream_stream("/atoll.Test/Echo")
    assert list(both(iter([b"abc", b"x" * 100_000]), timeout=20)) == [b"cba", b"x" * 100_000]
    for method, data, code in (
        ("Add", b"bad", grpc.StatusCode.INVALID_ARGUMENT),
        ("Missing", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("Waits", b"", grpc.StatusCode.DEADLINE_EXCEEDED),
    ):
        try:
            channel.unary_unary(f"/atoll.Test/{method}")(data, timeout=20 if data else 0.2)
        except grpc.RpcError as error:
            assert error.code() == code, error
        else:
            raise AssertionError("no RpcError")
