"""What the tests of coroutines share, and what interpreters do with loops of theirs."""

import asyncio


def run(main):
    """asyncio.run, for a function without arguments."""
    return asyncio.run(main())


async def tasks_waiting(*coroutines):
    """Tasks for them that wait by now."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    await asyncio.sleep(0)
    return tasks


def rest_of(queue):
    items = []
    while not queue.empty():
        items.append(queue.get_nowait())
    return items


kept = []


def echo(there, back):
    async def main():
        count = 0
        async for item in there:
            await back.put_async(item)
            count += 1
        back.shutdown()
        return count

    return asyncio.run(main())


def echo_one(item):
    async def main():
        return item

    return asyncio.run(main())


def get_for_ever(queue):
    async def main():
        while True:
            await queue.get_async()

    asyncio.run(main())


def leave_waiting(queue):
    """Ends with a loop that is not closed, and in which somebody waits."""
    loop = asyncio.new_event_loop()
    kept.append((loop, loop.create_task(queue.get_async())))
    loop.run_until_complete(asyncio.sleep(0.001))
