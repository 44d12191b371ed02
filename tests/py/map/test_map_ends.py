"""atoll map when things end: killed and resumed, no reader, no room, Ctrl-C, no end."""

import json
import os
import random
import resource
import signal
import subprocess
import time

import mapping
import pytest
from mapping import cli, start
from support import NIGHTLY, until
from test_map import numbers, table


def wait(process, timeout=30):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err.decode()


# -------------------------------------------------------- killed and resumed


def killed_and_resumed(tmp_path, args, dice, data=None):
    """Start the same command until it comes to its end; most are killed before.
    How often that was so."""
    kills = 0
    while True:
        with open(data if data is not None else os.devnull, "rb") as stdin:
            process = start(*args, "--checkpoint=0.01", "--resume", tmp_path / "journal",
                            stdin=stdin)  # fmt: skip
        try:
            # The end of many falls into what they do.
            process.wait(dice.uniform(0.1, 0.9) if kills < 15 else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT]))
            process.communicate(timeout=30)
            kills += 1
            if process.returncode != 0:
                continue
        status, _, err = wait(process)
        assert status in (0, 1), err
        return kills


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(120 if NIGHTLY else 6))  # of six kinds
def test_killed_and_resumed(tmp_path, seed):
    dice = random.Random(seed)
    kind = seed % 3
    out, errors = tmp_path / "out", tmp_path / "errors"
    if kind == 0:
        data = b"".join(b"%d %s\n" % (n, b"x" * dice.randrange(60)) for n in range(900))
        expected = b"".join(b"<%s>\n" % line for line in data.splitlines())
        args = ["mapping:slow", "-o", out]
    elif kind == 1:
        data = table(900)
        expected = data
        args = ["mapping:slow_row", "--csv", "-o", out]
    else:
        data = numbers(900)
        left = [n for n in range(900) if "3" not in str(n)]
        expected = b"".join(b"%d\n" % n for n in left)
        args = ["mapping:slow_no_threes", "-o", out, "--errors", errors]
    half = data.index(b"\n", len(data) // 2) + 1
    one, two = tmp_path / "one", tmp_path / "two"
    stdin = None
    if kind == 1 or seed % 2:
        one.write_bytes(data)
        args.append("-" if dice.random() < 0.5 else one)
        stdin = one
    else:
        one.write_bytes(data[:half])
        two.write_bytes(data[half:])
        args += [one, two]
    kills = killed_and_resumed(tmp_path, args, dice, stdin)
    assert out.read_bytes() == expected
    if kind == 2:
        entries = [json.loads(line) for line in errors.read_text().splitlines()]
        assert [e["number"] - 1 for e in entries] == sorted({*range(900)} - {*left})
    assert kills or seed  # the machine may be quick, but not always


def test_resumed_at_every_entry(tmp_path):
    """Whatever was written after an entry of the journal."""
    source, out, journal = tmp_path / "in", tmp_path / "out", tmp_path / "journal"
    source.write_bytes(numbers(3000))
    args = ["mapping:upper", source, "-o", out, "--resume", journal, "--checkpoint=0"]
    assert cli(*args, "--batch=100")[0] == 0
    whole, lines = out.read_bytes(), journal.read_bytes().splitlines(keepends=True)
    assert whole == source.read_bytes() and len(lines) == 32
    dice = random.Random(1)
    for number in (0, 1, 2, 17, 30, 31):
        written = json.loads(lines[number - 1])["output"] if number > 1 else 0
        out.write_bytes(whole[: dice.randrange(written, len(whole) + 1)] + b"rest")
        torn = dice.randrange(len(lines[number]))
        journal.write_bytes(b"".join(lines[:number]) + lines[number][:torn])
        assert cli(*args) == (0, b"", "")
        assert out.read_bytes() == whole
    status, _, err = cli(*args)
    assert (status, err) == (0, "atoll map: nothing is left to do: the run was finished\n")
    assert out.read_bytes() == whole


def test_failure_mended_and_resumed(tmp_path):
    module, out = tmp_path / "mod.py", tmp_path / "out"
    module.write_text("def f(line):\n  1 // (int(line) - 1234)\n  return line\n")
    (tmp_path / "in").write_bytes(numbers(2000))
    args = ["mod:f", "in", "-o", out, "--resume", "journal"]
    status, _, err = cli(*args, cwd=tmp_path)
    assert status == 1 and "record 1,235 failed: ZeroDivisionError" in err
    module.write_text("def f(line):\n  return line\n")
    assert cli(*args, cwd=tmp_path) == (0, b"", "")
    assert out.read_bytes() == numbers(2000)


def test_journals_that_are_not_taken(tmp_path):
    source, out, journal = tmp_path / "in", tmp_path / "out", tmp_path / "journal"
    source.write_bytes(numbers(10))
    args = ["mapping:upper", source, "-o", out, "--resume", journal]
    journal.write_bytes(b"something of yours\nwithout end")
    status, _, err = cli(*args)
    assert status == 2 and "is no journal of atoll map" in err
    assert journal.read_bytes() == b"something of yours\nwithout end"
    journal.unlink()
    assert cli(*args)[0] == 0
    status, _, err = cli("mapping:same", *args[1:])
    assert status == 2 and "of another run (other function); delete it" in err
    source.write_bytes(numbers(11))
    status, _, err = cli(*args)
    assert status == 2 and "of another run (other input)" in err


def test_output_that_cannot_be_cut(tmp_path):
    args = ["-o", "/dev/null", "--resume", tmp_path / "journal"]
    status, _, err = cli("mapping:same", *args)
    assert (status, err) == (
        2,
        "atoll map: error: /dev/null is no regular file: no --resume\n",
    )


def test_standard_input_that_is_another(tmp_path):
    args = ["-o", tmp_path / "out", "--resume", tmp_path / "journal", "--batch=1"]
    data = numbers(10) + b"three\n"
    status, _, _ = cli("mapping:number_only", *args, "--checkpoint=0", data=data)
    assert status == 1
    status, _, err = cli("mapping:number_only", *args, data=b"0\n")
    assert status == 2 and "standard input has ended 18 bytes before" in err
    assert cli("mapping:number_only", *args, data=numbers(12)) == (0, b"", "")
    assert (tmp_path / "out").read_bytes() == numbers(12)


def test_one_run_at_a_time(tmp_path):
    args = ["mapping:same", "-o", tmp_path / "out", "--resume", tmp_path / "journal"]
    process = start(*args, stdin=subprocess.PIPE)
    until(lambda: (tmp_path / "journal").exists() and (tmp_path / "journal").stat().st_size)
    status, _, err = cli(*args)
    assert status == 2 and "another run uses" in err
    process.stdin.write(b"x\n")
    assert wait(process)[0] == 0
    assert (tmp_path / "out").read_bytes() == b"x\n"


# --------------------------------------------------------- readers and disks


def endless(function, *args, **kwargs):
    source = subprocess.Popen(["yes", "0123456789 and so on"], stdout=subprocess.PIPE)
    process = start(f"mapping:{function}", *args, stdin=source.stdout, **kwargs)
    source.stdout.close()
    return source, process


@pytest.mark.parametrize("args", [(), ("--unordered",), ("--batch=1",)])
def test_nobody_reads(args):
    source, process = endless("same", *args)
    assert process.stdout.readline() == b"0123456789 and so on\n"
    process.stdout.close()
    assert process.wait(30) == -signal.SIGPIPE
    assert process.stderr.read() == b""
    process.stderr.close()
    assert source.wait(30) == -signal.SIGPIPE


def test_full_disk(tmp_path):
    said = "atoll map: error: cannot write standard output: No space left on device\n"
    with open("/dev/full", "wb") as full:
        assert cli("mapping:same", data=numbers(100), stdout=full) == (1, None, said)
    for args in (["-o", "/dev/full"], ["--errors", "/dev/full"]):
        status, _, err = cli("mapping:no_threes", *args, data=numbers(100))
        assert (status, err) == (1, said.replace("standard output", "/dev/full"))


def test_file_that_must_not_grow(tmp_path):
    """A disk that is full in the middle; with room it is resumed."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.write_bytes(numbers(20_000))
    args = ["mapping:same", source, "-o", out, "--resume", tmp_path / "journal"]
    # Python ignores SIGXFSZ: the write fails.
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    status, _, err = cli(*args, "--checkpoint=0", preexec_fn=limit)
    assert (status, err) == (1, f"atoll map: error: cannot write {out}: File too large\n")
    assert cli(*args) == (0, b"", "")
    assert out.read_bytes() == source.read_bytes()


def test_no_standard_output():
    process = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *mapping.COMMAND, "mapping:same"],
        env=mapping.python_env(), stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
    )  # fmt: skip
    assert process.returncode == 2
    assert b"cannot write standard output: Bad file descriptor" in process.stderr


def test_input_that_cannot_be_read():
    status, out, err = cli("mapping:same", "/proc/self/mem")
    assert (status, out) == (1, b"")
    assert err == "atoll map: error: cannot read /proc/self/mem: Input/output error\n"


# ------------------------------------------------------------- Ctrl-C, memory


@pytest.mark.parametrize("function", ["same", "slow", "spins", "sleeps"])
def test_ctrl_c(function):
    source, process = endless(function)
    if function in ("same", "slow"):
        process.stdout.readline()
    else:
        until(lambda: cpu(process.pid) > 0)
        time.sleep(0.5)
    drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
    process.stdout.close()
    process.stdout = None
    process.send_signal(signal.SIGINT)
    status, _, err = wait(process)
    assert (status, err) == (130, "atoll map: interrupted\n")
    assert drain.wait(30) == 0
    source.wait(30)


def test_ctrl_c_while_it_waits_for_input():
    process = start("mapping:upper", stdin=subprocess.PIPE)
    process.stdin.write(b"a\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"A\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    wait(process)


def cpu(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory(pid):
    """In MiB."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


def test_endless_input_in_constant_memory():
    source, process = endless("same")
    seen, sizes = 0, []
    while seen < 300 << 20:
        seen += len(os.read(process.stdout.fileno(), 1 << 20))
        if seen >> 20 >= 50 * (len(sizes) + 1):
            sizes.append(memory(process.pid))
    process.kill()
    wait(process)
    source.wait(30)
    assert sizes[-1] < sizes[0] + 30, sizes


@pytest.mark.parametrize("function", ["same", "long"])
def test_slow_output_stops_the_reading(function):
    source, process = endless(function)
    process.stdout.readline()
    # Nobody reads on: after a while nothing moves any more.
    at_rest(source)
    assert memory(process.pid) < 300
    process.kill()
    wait(process)
    source.wait(30)


def test_a_slow_record_holds_up_only_so_much():
    """In order, what is done early has to wait: not without limit."""
    source = subprocess.Popen(
        ["sh", "-c", "echo first; yes 0123456789"], stdout=subprocess.PIPE
    )
    process = start("mapping:first_spins", "-j2", stdin=source.stdout)
    source.stdout.close()
    at_rest(source)
    assert memory(process.pid) < 300
    process.kill()
    wait(process)
    source.wait(30)


def at_rest(source):
    """Wait until `source` can write no more."""
    written = -1
    while written != (written := wrote(source.pid)):
        time.sleep(1)


def wrote(pid):
    with open(f"/proc/{pid}/io") as file:
        return dict(line.split(": ") for line in file)["wchar"]
