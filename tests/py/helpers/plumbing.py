"""What interpreters do with sockets, pipes and files that they are sent."""

kept = []


def say(sock, data):
    with sock:
        sock.sendall(data)


def serve_one(queue, data):
    with queue.get() as sock:
        sock.sendall(data)


def accept_one(server, data):
    with server:
        sock, _ = server.accept()
        with sock:
            sock.sendall(data)


def write_and_flush(file, data):
    with file:
        file.write(data)
        file.flush()


def read(file, size):
    with file:
        return file.read(size)


def answer(connection):
    with connection:
        connection.send(("answer", connection.recv()))


def keep(queue):
    kept.append(queue.get())
