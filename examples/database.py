"""Two interpreters work on one SQLite database in memory.

    python examples/database.py

A connection is sent like any other object, and arrives as a connection of the
receiver's own to the same database. SQLite does the locking.
"""

import random

import atoll
import atoll.sqlite


def fill(connection, name, count):
    chance = random.Random(name)
    with connection:  # one transaction
        connection.executemany(
            "INSERT INTO sales VALUES (?, ?)",
            ((name, chance.randrange(100)) for _ in range(count)),
        )
    connection.close()


def main():
    connection = atoll.sqlite.connect("sales", timeout=30)
    connection.execute("CREATE TABLE sales (shop TEXT, amount INTEGER)")
    connection.commit()
    shops = ["Avarua", "Funafuti"]
    interpreters = [atoll.create(shop) for shop in shops]
    threads = [
        interp.call_in_thread(fill, connection, shop, 10_000)
        for interp, shop in zip(interpreters, shops, strict=True)
    ]
    for thread in threads:
        thread.join()
    query = "SELECT shop, count(*), sum(amount) FROM sales GROUP BY shop ORDER BY shop"
    for shop, count, total in connection.execute(query):
        print(f"{shop}: {count:,} sales, {total:,} in all")


if __name__ == "__main__":
    main()
