"""As much of a client of the Debug Adapter Protocol as the tests need."""

import json
import socket


class Client:
    """Talks with a debugger that listens on `port` of this machine."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._seen = []

    def send(self, command, **arguments):
        self._number += 1
        request = {
            "seq": self._number,
            "type": "request",
            "command": command,
            "arguments": arguments,
        }
        data = json.dumps(request).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        return self._number

    def call(self, command, **arguments):
        """What the debugger answers."""
        number = self.send(command, **arguments)
        answer = self._until(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        return answer.get("body")

    def event(self, name):
        """The next event of that name."""
        return self._until(lambda message: message.get("event") == name).get("body")

    def close(self):
        self._file.close()
        self._socket.close()

    def _until(self, is_it):
        for place, message in enumerate(self._seen):
            if is_it(message):
                return self._seen.pop(place)
        while not is_it(message := self._read()):
            self._seen.append(message)
        return message

    def _read(self):
        size = 0
        while (line := self._file.readline()) != b"\r\n":
            assert line, "the debugger has gone"
            name, _, value = line.partition(b":")
            if name == b"Content-Length":
                size = int(value)
        return json.loads(self._file.read(size))
