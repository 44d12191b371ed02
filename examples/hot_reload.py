"""A configuration that all workers read while it is replaced.

    python examples/hot_reload.py

The configuration is frozen and put into a Cell. Workers load it for each request:
they get a handle to the newest one, and its objects, in microseconds, whatever its
size. Main stores a new one several times meanwhile. Each worker goes on with the one
that it has, and takes the next at its next request: nobody ever sees half of one.

The old ones' memory goes when nobody holds it. What a worker has opened with get()
it holds until its interpreter is closed, so here they are closed at the end.
"""

import threading

import atoll

RELOADS, ROUTES = 5, 20_000
WORKERS = 3


def configuration(version):
    """Every part of it says which version it is of."""
    return {
        "version": version,
        "routes": {f"/path/{n}": {"to": f"server{n % 7}", "of": version}
                   for n in range(ROUTES)},
        "limits": [version] * 1000,
    }  # fmt: skip


def serve(current, seen, stop):
    """Requests until `stop`: how many, and the versions that were met."""
    requests, versions = 0, []
    while not stop.is_set():
        config = current.load().get()  # this one, whatever happens meanwhile
        version = config["version"]
        for n in range(requests % 100, ROUTES, 100):  # whole ones only
            assert config["routes"][f"/path/{n}"]["of"] == version
        assert set(config["limits"]) == {version}
        if version not in versions:
            versions.append(version)
            seen.put(version)
        requests += 1
    return requests, versions


def main():
    current = atoll.Cell(atoll.freeze(configuration(0)))
    seen, stop = atoll.create_queue(), atoll.Event()
    interpreters = [atoll.create() for _ in range(WORKERS)]
    answers = []

    def work(interp):
        answers.append(interp.call(serve, current, seen, stop))

    threads = [threading.Thread(target=work, args=(i,)) for i in interpreters]
    for thread in threads:
        thread.start()
    for version in range(RELOADS + 1):
        if version > 0:
            current.store(atoll.freeze(configuration(version)))
        for _ in interpreters:  # until everybody has met it
            assert seen.get(timeout=30) == version
    stop.set()
    for thread in threads:
        thread.join()

    for requests, versions in answers:
        print(f"{requests} requests, versions {versions}")
    assert sum(requests for requests, _ in answers) >= (RELOADS + 1) * WORKERS
    before = atoll.frozen_stats()
    for interp in interpreters:
        interp.close()
    after = atoll.frozen_stats()
    print(f"configurations in memory: {before['graphs']} with the workers open, "
          f"{after['graphs']} when they are closed "
          f"({before['nbytes'] / 1e6:.0f} and {after['nbytes'] / 1e6:.0f} MB)")  # fmt: skip


if __name__ == "__main__":
    main()
