import os
import socket
import sys
import threading
import time

import psutil


def use(seed: int) -> None:
    me = psutil.Process()
    assert me.pid == os.getpid() and me.ppid() == os.getppid()
    assert me.is_running() and me.status() in (psutil.STATUS_RUNNING, psutil.STATUS_SLEEPING)
    assert me == psutil.Process(os.getpid()) and me.pid in psutil.pids()
    assert me.create_time() <= time.time()
    assert os.path.samefile(me.exe(), os.path.realpath(sys.executable))
    assert me.cwd() == os.getcwd()

    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    rss = me.memory_info().rss
    assert abs(rss - pages * os.sysconf("SC_PAGESIZE")) < rss / 4
    assert psutil.virtual_memory().total == (
        os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    assert psutil.cpu_count() == os.cpu_count()

    # CPU time of this thread counts in the times of the process.
    before = sum(me.cpu_times()[:2])
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    assert sum(me.cpu_times()[:2]) - before >= 0.03

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        ids = {info.id for info in me.threads()}
        assert {threading.get_native_id(), thread.native_id} <= ids
        assert me.num_threads() >= 2
    finally:
        stop.set()
        thread.join()

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listening = [c.laddr.port for c in me.net_connections("tcp") if c.status == "LISTEN"]
        assert port in listening
    addresses = psutil.net_if_addrs()
    assert {address.address for address in addresses["lo"]} >= {"127.0.0.1"}
    assert any(part.mountpoint for part in psutil.disk_partitions(all=True))
    usage = psutil.disk_usage("/")
    assert usage.total == os.statvfs("/").f_blocks * os.statvfs("/").f_frsize
    assert me.cpu_affinity() == sorted(os.sched_getaffinity(0))
    assert me.nice() == os.getpriority(os.PRIO_PROCESS, 0)
    try:
        psutil.Process(2**22 + 1 + seed % 100)
    except psutil.NoSuchProcess:
        pass
    else:
        raise AssertionError("no NoSuchProcess")
