"""A crawler: one event loop fetches pages, and a pool reads them on every core.

    python examples/crawler.py [PAGES]

The site is on loopback and part of this program. The loop does all the waiting and
none of the work, so it stays on time: the summary says how late it ever was.
"""

import asyncio
import random
import re
import sys
import time
from collections import Counter
from html.parser import HTMLParser

from atoll import InterpreterPoolExecutor

WORDS = "coral reef lagoon palm tide wave sand shell crab gull canoe island".split()
CONNECTIONS = 20


# ------------------------------------------------------ what the workers do


class Page(HTMLParser):
    """The links on a page and its words."""

    def __init__(self, html):
        super().__init__()
        self.links = []
        self.words = Counter()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if (tag, name) == ("a", "href")]

    def handle_data(self, data):
        self.words.update(re.findall(r"\w+", data))


def read(html):
    page = Page(html)
    return page.links, page.words


# ------------------------------------------------------- what the loop does


async def crawl(port, pool):
    """Visit every page that can be reached from the first; count the words."""
    seen, todo, words = {"/0"}, asyncio.Queue(), Counter()
    todo.put_nowait("/0")

    async def visit():
        while True:
            html = await fetch(port, await todo.get())
            links, found = await pool.submit(read, html)
            words.update(found)
            for link in set(links) - seen:
                seen.add(link)
                todo.put_nowait(link)
            todo.task_done()

    async with asyncio.TaskGroup() as group:
        visitors = [group.create_task(visit()) for _ in range(CONNECTIONS)]
        await todo.join()
        for visitor in visitors:
            visitor.cancel()
    return len(seen), words


async def fetch(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    if head != b"HTTP/1.0 200 OK":
        raise RuntimeError(f"{path}: {head.decode()}")
    return body.decode()


async def lateness(late, every=0.005):
    """Note by how many seconds the loop wakes too late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every
        await asyncio.sleep(every)
        late.append(loop.time() - due)


# ----------------------------------------------------------------- the site


def make_page(number, pages):
    chance = random.Random(number)
    text = " ".join(chance.choices(WORDS, k=3000))
    links = [2 * number + 1, 2 * number + 2, chance.randrange(pages)]
    anchors = [f'<a href="/{n}"></a>' for n in links if n < pages]
    return f"<html><body><p>{text}</p>{''.join(anchors)}</body></html>".encode()


def make_server(pages):
    content = {f"/{n}".encode(): make_page(n, pages) for n in range(pages)}

    async def answer(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        path = request.split()[1]
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + content[path])
        await writer.drain()
        writer.close()

    return asyncio.start_server(answer, "127.0.0.1", 0)


async def main(pages=600):
    late = []
    async with await make_server(pages) as server:
        port = server.sockets[0].getsockname()[1]
        with InterpreterPoolExecutor() as pool:
            watch = asyncio.create_task(lateness(late))
            start = time.perf_counter()
            visited, words = await crawl(port, pool)
            seconds = time.perf_counter() - start
            watch.cancel()
    common = ", ".join(f"{word} {count:,}" for word, count in words.most_common(3))
    print(f"{visited:,} pages with {words.total():,} words in {seconds:.2f} s: {common}, …")
    print(f"the loop was never more than {1000 * max(late):.1f} ms late")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
