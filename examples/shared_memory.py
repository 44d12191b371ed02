"""A large buffer that two interpreters fill at once, without a copy.

    python examples/shared_memory.py

Each gets a view of its own half, writes into it, and says when it is done.
"""

import atoll


def squares(view, start, done):
    with view.cast("Q") as numbers:
        for i in range(len(numbers)):
            numbers[i] = (start + i) ** 2
    done.put(start)


def main():
    count = 200_000
    buffer = atoll.Buffer(8 * count)  # belongs to no interpreter
    done = atoll.create_queue()
    interpreters = [atoll.create() for _ in range(2)]
    with memoryview(buffer) as whole:
        half = len(whole) // 2
        for i, interp in enumerate(interpreters):
            part = whole[i * half : (i + 1) * half]
            interp.call_in_thread(squares, part, i * count // 2, done)
        for _ in interpreters:
            done.get()
        with whole.cast("Q") as numbers:
            assert all(numbers[i] == i * i for i in range(count))
            print(f"{count:,} squares, the last one is {numbers[-1]:,}")


if __name__ == "__main__":
    main()
