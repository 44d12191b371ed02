"""Dask on interpreters: its schedulers of one machine, and workers of distributed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import atoll
import dask
import jobs
import numpy as np
import pytest
from atoll.dask import Nanny, Worker
from dask import bag
from distributed import Client, LocalCluster

MAIN = atoll.get_main().id

WAYS = {
    "executor": lambda pool: {"scheduler": pool},
    "threads": lambda pool: {"scheduler": "threads", "pool": pool},
    "processes": lambda pool: {"scheduler": "processes", "pool": pool},
}


@pytest.fixture(scope="module")
def pool():
    with atoll.InterpreterPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(params=WAYS)
def on_pool(request, pool):
    with dask.config.set(WAYS[request.param](pool)):
        yield


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two processes with two interpreters each, on loopback."""
    with LocalCluster(
        n_workers=2, threads_per_worker=2, worker_class=Nanny, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def by_default():
    """The numbers of Dask's own schedulers."""
    return jobs.count_words().compute(), jobs.spectrum().compute()


# ------------------------------------------------------------------ one machine


def test_a_bag(on_pool, by_default):
    assert jobs.count_words().compute() == by_default[0]


def test_an_array(on_pool, by_default):
    assert np.array_equal(jobs.spectrum().compute(), by_default[1])


def test_in_interpreters(on_pool):
    seen = set(bag.from_sequence(range(100), npartitions=20).map(jobs.where).compute())
    assert {process for process, _ in seen} == {os.getpid()}
    assert MAIN not in {interp for _, interp in seen}


def test_lambdas(on_pool):
    double = bag.from_sequence(range(10), npartitions=3).map(lambda x: 2 * x)
    assert double.sum().compute() == 90


def test_errors(on_pool):
    with pytest.raises(LookupError, match="no such word"):
        bag.from_sequence(["no such word"]).map(jobs.fail).compute()


# ------------------------------------------------------------------ distributed


def test_a_bag_on_a_cluster(client, by_default):
    assert jobs.count_words().compute() == by_default[0]


def test_an_array_on_a_cluster(client, by_default):
    assert np.array_equal(jobs.spectrum().compute(), by_default[1])


def test_a_cluster_of_interpreters(client):
    seen = set()
    end = time.monotonic() + 60
    while len(seen) < 4 and time.monotonic() < end:  # some may still be importing
        seen.update(client.gather(client.map(jobs.where, range(100), pure=False)))
    assert len({process for process, _ in seen}) == 2
    assert os.getpid() not in {process for process, _ in seen}
    assert MAIN not in {interp for _, interp in seen}
    assert len(seen) == 4


def test_results_stay_on_the_cluster(client):
    first = client.submit(np.arange, 1_000_000)
    total = client.submit(np.sum, first)
    assert total.result() == 499_999_500_000


def test_an_error_on_a_cluster(client):
    with pytest.raises(LookupError, match="far away"):
        client.submit(jobs.fail, "far away").result()


def test_actors_live_in_main(client):
    tally = client.submit(jobs.Tally, actor=True).result()
    assert tally.add(2).result() == (2, MAIN)
    assert tally.add(3).result() == (5, MAIN)


def test_there_is_no_worker_in_a_task(client):
    """It lives in main; what asks for it fails, and says so."""
    assert client.submit(jobs.find_worker, 1).result() == "No worker found"
    with pytest.raises(Exception, match=r"No worker found|cannot be sent"):
        client.submit(jobs.work_in_a_client, 1).result()
    assert client.submit(sum, [1, 2]).result() == 3


def test_the_command_line(tmp_path):
    """As the reference has it, but for the port, which is a free one."""
    dask_command = Path(sys.executable).with_name("dask")
    meet = ("--scheduler-file", tmp_path / "scheduler.json")
    quiet = {"cwd": tmp_path, "stderr": subprocess.DEVNULL}
    here = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    what = ("--worker-class", "atoll.dask.Worker", "--nthreads", "2", "--no-dashboard")
    scheduler = subprocess.Popen([dask_command, "scheduler", *here, *meet], **quiet)
    worker = subprocess.Popen([dask_command, "worker", *what, *meet], **quiet)
    try:
        with Client(scheduler_file=str(meet[1]), timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            assert client.ncores() and set(client.ncores().values()) == {2}
            # A lambda, by value: this file is not on the path there.
            work = client.map(
                lambda n: (sum(range(n)), atoll.get_current().id), range(200_000, 200_050)
            )
            seen = {id for _, id in client.gather(work)}
            # One may have done it all while the other was still importing.
            assert MAIN not in seen and 1 <= len(seen) <= 2
        worker.terminate()
        assert worker.wait(60) == 0
        scheduler.terminate()
        assert scheduler.wait(60) == 0
    finally:
        worker.kill()
        scheduler.kill()
        worker.wait()
        scheduler.wait()


def test_a_worker_has_its_own_executor():
    with pytest.raises(TypeError, match="executor of its own"):
        Worker("tcp://127.0.0.1:1", executor=None)
