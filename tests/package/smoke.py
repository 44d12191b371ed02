"""What an installed atoll must do. Needs nothing but atoll itself.

python -I tests/package/smoke.py [VERSION]
"""

import sys
from importlib import metadata, resources

import atoll


def count_primes(below):
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, below))


def main(version=None):
    assert atoll.__version__ == metadata.version("atoll") == (version or atoll.__version__)
    assert resources.files("atoll").joinpath("py.typed").is_file()

    with atoll.InterpreterPoolExecutor(2) as pool:
        assert list(pool.map(count_primes, [10, 100, 1000])) == [4, 25, 168]

    recv, send = atoll.create_channel()
    task = atoll.spawn(lambda: [item["n"] for item in recv])
    for n in range(3):
        send.send({"n": n})
    send.close()
    assert task.result(30) == [0, 1, 2]

    frozen = atoll.freeze({"a": [1, 2, 3]})
    with atoll.create() as interp:
        assert interp.call(lambda: frozen.get()["a"][2]) == 3
        interp.exec("import json, datetime, decimal, sqlite3")
    print("atoll", atoll.__version__, "works on", sys.version.split()[0])


main(*sys.argv[1:])
