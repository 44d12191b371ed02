"""Connections to databases, in files and in memory, in several interpreters."""

import sqlite3

import atoll
import atoll.sqlite
import pytest


def add(connection, value):
    with connection:
        connection.execute("INSERT INTO t VALUES (?)", (value,))
    found = connection.execute("SELECT x FROM t ORDER BY x").fetchall()
    kind = type(connection).__module__, type(connection).__name__
    connection.close()
    return found, kind


def test_a_database_in_memory(interp):
    connection = atoll.sqlite.connect("test_memory")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    found, kind = interp.call(add, connection, 2)
    assert found == [(1,), (2,)]
    assert kind == ("atoll.sqlite", "Connection")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    connection.close()


def test_options_go_with_it(interp):
    connection = atoll.sqlite.connect("test_options", isolation_level=None, timeout=7)
    assert interp.call(workers_isolation, connection) is None
    connection.close()


def workers_isolation(connection):
    with_it = connection.isolation_level
    connection.close()
    return with_it


def test_the_last_connection_ends_it():
    atoll.sqlite.connect("test_end").execute("CREATE TABLE t (x)").connection.close()
    connection = atoll.sqlite.connect("test_end")
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("SELECT * FROM t")
    connection.close()


def test_a_database_in_a_file(interp, tmp_path):
    connection = sqlite3.connect(tmp_path / "file.db")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    found, kind = interp.call(add, connection, 5)
    assert found == [(5,)]
    assert kind == ("sqlite3", "Connection")
    connection.close()


@pytest.mark.parametrize("make", [
    lambda: sqlite3.connect(":memory:"),
    lambda: atoll.sqlite.Connection(":memory:"),
])
def test_a_database_of_its_connection_alone(make):
    queue = atoll.create_queue()
    connection = make()
    with pytest.raises(atoll.NotShareableError, match=r"\[1\].*alone|\[1\].*connection"):
        queue.put([0, connection])
    assert queue.empty()
    connection.execute("SELECT 1")
    connection.close()


@pytest.mark.parametrize("name", ["", "a?b", "a/b", "a#b", "a%20"])
def test_names_that_would_mean_something_else(name):
    with pytest.raises(ValueError, match="name"):
        atoll.sqlite.connect(name)
