"""atoll map: formats, order, functions, failures, and what is said of mistakes."""

import csv
import io
import json
import os
import pty
import random
import subprocess
import time
from pathlib import Path

import mapping
import pytest
from atoll._map.loop import _LARGEST
from atoll._map.read import END, Cutter, RowCutter
from atoll._map.work import Plan, _worker
from mapping import cli, good
from support import HERE, until


def numbers(count):
    return b"".join(b"%d\n" % n for n in range(count))


# -------------------------------------------------------------------- formats


def test_lines():
    data = numbers(50_000)
    assert good("mapping:same", data=data) == data
    assert good("mapping:upper", data=b"a\n\nb") == b"A\n\nB\n"
    assert good("mapping:upper", data=b"") == b""


def test_bytes_that_are_no_text():
    data = bytes(b for b in range(256) if b != 10) + b"\n\xff\xfe\r\n"
    assert good("mapping:same", data=data) == data
    assert good("mapping:same", "--bytes", data=data) == data
    assert good("mapping:kind", "--bytes", data=b"x\n") == b"bytes\n"


def test_what_cannot_be_written_is_the_failure_of_its_record():
    """A batch is encoded at once: those beside it, with and without a result, are as ever."""
    data = b"".join(b"%d\n" % n for n in range(100))
    status, out, err = cli("mapping:unwritable", "--on-error=report", "--batch=100", data=data)
    assert status == 1
    errors = [json.loads(line) for line in err.splitlines()]
    assert [error["number"] for error in errors] == [n + 1 for n in range(3, 100, 5)]
    assert {error["exception"].partition(":")[0] for error in errors} == {
        "UnicodeEncodeError", "ValueError"
    }  # fmt: skip
    assert all(error["record"] == str(error["number"] - 1) for error in errors)
    assert out == b"".join(b"<%d>\n" % n for n in range(100) if n % 5 not in (1, 3))
    status, out, err = cli("mapping:unwritable", "--batch=100", data=data)
    assert (status, out) == (1, b"<0>\n<2>\n") and "record 4 failed" in err


def test_a_worker_for_text_imports_little(tmp_path):
    """Of short inputs its start is most of the time."""
    names = ["sys", "atoll._map.work", "dataclasses", "inspect", "json", "csv", "re", "typing"]
    path = tmp_path / "loaded.py"
    path.write_text("import sys\ndef loaded(name):\n    return int(name in sys.modules)\n")
    out = good(f"{path}:loaded", data="\n".join(names).encode())
    assert out == b"1\n1\n0\n0\n0\n0\n0\n0\n"


def test_a_cheap_function_costs_a_worker_less_than_a_loop(tmp_path):
    """CPU time, the least of some, for lines as those of this file."""
    text = Path(__file__).read_bytes() * 60
    path = tmp_path / "text"
    path.write_bytes(text)
    put_through = _worker(Plan(function="mapping:same"))
    cutter = Cutter(b"\n")
    cutter.feed(text)
    cutter.feed(END)
    batches = []
    while (batch := cutter.cut(_LARGEST, False)) is not None:
        batches.append(batch.data)

    def work():
        for data in batches:
            put_through(data, None, None)

    def loop():
        with open(path, newline="\n") as lines, open(tmp_path / "out", "w") as out:
            for line in lines:
                out.write(mapping.same(line.removesuffix("\n")))
                out.write("\n")

    def least(function):
        times = []
        for _ in range(7):
            begin = time.thread_time()
            function()
            times.append(time.thread_time() - begin)
        return min(times)

    assert b"".join(put_through(data, None, None)[0] for data in batches) == text
    ours, theirs = least(work), least(loop)
    assert ours < 0.8 * theirs, (ours, theirs)


@pytest.mark.parametrize(
    "source, wrong",
    [
        ("async def f(line): pass", True),
        ("import inspect\nasync def f(line): pass", True),
        ("import functools\nasync def g(a, line): pass\nf = functools.partial(g, 1)", True),
        ("class C:\n    async def g(self, line): pass\nf = C().g", True),
        ("import functools\nf = functools.partial(max, '')", False),
        ("f = 'x'.join", False),
    ],
)
def test_a_function_that_is_async(source, wrong, tmp_path):
    path = tmp_path / "source.py"
    path.write_text(source)
    status, _, err = cli(f"{path}:f", data=b"abc\n")
    assert (status, "is an async function" in err) == ((2, True) if wrong else (0, False))


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "arguments, data, out",
    [
        (["mapping:double", "--jsonl"], b'{"n": 1}\n{"n": 2}\n', b'{"n": 2}\n{"n": 4}\n'),
        (["mapping:upper"], b"a\nb\n", b"A\nB\n"),
        (["mapping:upper", "--null"], b"a\0b\0", b"A\0B\0"),
        (["mapping:same", "--csv", "--no-header"], b"1,2\n", b"1,2\n"),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_text(arguments, data, out, tmp_path):
    """Of each file, and nowhere else."""
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "only"]
    for path, content in zip(paths, (data, data, b""), strict=True):
        path.write_bytes(MARK + content)
    assert good(*arguments, *paths) == 2 * out
    if arguments[0] == "mapping:upper":
        assert good(*arguments, "--bytes", paths[0]) == MARK + out


@pytest.mark.parametrize("text", [True, False])
def test_a_byte_order_mark_that_comes_in_pieces(text):
    cutter = Cutter(b"\n", text=text)
    for n in range(len(MARK)):
        cutter.feed(MARK[n : n + 1])
        assert cutter.cut(1, True) is None
    cutter.feed(b"x\n")
    batch = cutter.cut(1, True)
    assert (batch.data, batch.offset) == (b"x\n" if text else MARK + b"x\n", 5)
    cutter.feed(MARK + b"\n")  # in the middle it is a character as others are
    assert cutter.cut(1, True).data == MARK + b"\n"


def test_null():
    assert good("mapping:upper", "--null", data=b"a\nb\0c\0\0d") == b"A\nB\0C\0\0D\0"


def test_jsonl():
    data = b"".join(b'{"n": %d, "s": "\xc3\xa9\\ud800"}\n' % n for n in range(1000))
    out = good("mapping:double", "--jsonl", data=b"\n" + data)
    assert [json.loads(line)["n"] for line in out.splitlines()] == list(range(0, 2000, 2))
    assert json.loads(out.splitlines()[0])["s"] == "é\ud800"
    assert good("mapping:same", "--jsonl", data='"é"\n[1, null]\n'.encode()) == (
        '"é"\n[1, null]\n'.encode()
    )
    assert good("mapping:evens", "--jsonl", data=b'{"n": 1}\n{"n": 2}') == b'{"n": 2}\n'
    status, out, err = cli("mapping:same", "--jsonl", "--on-error=report", data=b"1\n{\n2\n")
    assert (status, out) == (1, b"1\n2\n")
    assert json.loads(err)["number"] == 2 and json.loads(err)["record"] == "{"


def table(count):
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["n", "te xt"])
    for n in range(count):
        rows.writerow([n, ["plain", 'quo"ted', "two\nlines", "a,b", "é", ""][n % 6]])
    return file.getvalue().encode()


@pytest.mark.parametrize("count", [0, 1, 5, 20_000])
def test_csv(count):
    data = table(count)
    assert good("mapping:same", "--csv", data=data) == (data if count else b"")
    assert good("mapping:same", "--csv", "--no-header", data=data) == data


def test_csv_rows():
    assert good("mapping:kind", "--csv", data=b"a,b\n1,2\n") == b"dict\n"
    assert good("mapping:kind", "--csv", "--no-header", data=b"1,2\n") == b"list\n"
    assert good("mapping:listed", "--csv", "--no-header", data=b"x,y\n\nz") == b"x,y,2\nz,1\n"
    # A byte order mark, line ends of Windows, and a row that is too short.
    assert good("mapping:same", "--csv", data=b"\xef\xbb\xbfa,b\r\n1,2\r\n3\r\n") == (
        b"a,b\n1,2\n3,\n"
    )
    status, out, err = cli("mapping:same", "--csv", "--on-error=report", data=b"a\n1\n2,3\n4\n")
    assert (status, out) == (1, b"a\n1\n4\n")
    assert json.loads(err)["record"] == ["2", "3"]


def test_csv_columns():
    data = b"n,m\n" + b"".join(b"%d,x\n" % n for n in range(1, 3000))
    assert good("mapping:swapped", "--csv", data=data) == data
    status, out, err = cli("mapping:extra", "--csv", "--on-error=report", data=data)
    assert (status, out) == (1, data.replace(b"\n7,x\n", b"\n"))
    assert (json.loads(err)["number"], "'more'" in err) == (7, True)


def test_csv_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a,b\n1,2")
    two.write_bytes(b"b,a\n3,4\n")
    assert good("mapping:same", "--csv", one, two) == b"a,b\n1,2\n4,3\n"


def test_results():
    out = good("mapping:mixed", data=numbers(10)).split()
    assert out == [b"0", b"1", b"3", b"0", b"1", b"2", b"3", b"5", b"6", b"8", b"0", b"1"]
    assert good("mapping:words", data=b"a b\n\n c\n") == b"a\nb\nc\n"


def test_files(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a\nb")
    two.write_bytes(b"c\n")
    assert good("mapping:upper", one, "-", two, data=b"x") == b"A\nB\nX\nC\n"
    assert good("mapping:upper", one, "-j1", two) == b"A\nB\nC\n"
    assert good("-j1", "mapping:upper", "--", one) == b"A\nB\n"
    out = tmp_path / "out"
    out.write_bytes(b"something much longer")
    assert good("mapping:upper", one, "-o", out) == b""
    assert out.read_bytes() == b"A\nB\n"


# ------------------------------------------------------ order, batches, workers


def test_order():
    data = numbers(2000)
    assert good("mapping:late", "-j4", data=data) == data
    out = good("mapping:late", "-j4", "--unordered", data=data)
    assert out != data and sorted(out.split()) == sorted(data.split())


@pytest.mark.parametrize("batch", ["1", "7", "auto"])
def test_batch(batch):
    data = numbers(3000)
    assert good("mapping:same", "--batch", batch, data=data) == data
    data = table(3000)
    assert good("mapping:same", "--batch", batch, "--csv", data=data) == data


def test_a_result_does_not_wait_for_the_next_record():
    process = mapping.start("mapping:upper", stdin=subprocess.PIPE)
    with process:
        for line in (b"a\n", b"b\n", b"c\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line.upper()
        process.stdin.close()
        assert process.wait(30) == 0


def test_setup_and_preload():
    out = good(
        "mapping:use_state", "--setup=mapping:set_up", "--preload=json,decimal", data=b"x\n"
    )
    assert out == b"set\n"


def test_module_in_the_current_directory(tmp_path):
    (tmp_path / "here.py").write_text("import beside\nf = beside.f\nclass C:\n  g = len\n")
    (tmp_path / "beside.py").write_text("def f(line): return line * 2\n")
    (tmp_path / "json.py").write_text("def f(line): return 'mine'\n")
    assert good("here:f", data=b"a\n", cwd=tmp_path) == b"aa\n"
    assert good("here:C.g", data=b"abc\n", cwd=tmp_path) == b"3\n"
    assert good(tmp_path / "here.py:f", data=b"a\n", cwd="/") == b"aa\n"
    assert good("json.py:f", data=b"a\n", cwd=tmp_path) == b"mine\n"


def test_prints_go_to_standard_error():
    status, out, err = cli("mapping:prints", data=b"a\nb\n")
    assert (status, out) == (0, b"a\nb\n")
    assert sorted(err.splitlines()) == ["printed a", "printed b"]


# -------------------------------------------------------------------- failures


def test_stop():
    for extra in ((), ("-j4",), ("--batch=4",)):
        status, out, err = cli("mapping:no_three_at_all", *extra, data=numbers(500))
        assert (status, out) == (1, b"0\n1\n2\n")
        assert err.startswith("atoll map: record 4 failed: ValueError: a three: 3 (mapping.py:")
        assert "in no_three_at_all\n" in err and "_map_work" not in err


def test_skip():
    left = [b"%d\n" % n for n in range(500) if "3" not in str(n)]
    status, out, err = cli("mapping:no_threes", "--on-error=skip", data=numbers(500))
    assert (status, out) == (0, b"".join(left))
    assert err == f"atoll map: {500 - len(left)} of 500 records failed\n"


def test_report(tmp_path):
    bad = [str(n) for n in range(500) if "3" in str(n)]
    file = tmp_path / "errors"
    for extra in ((), ("--unordered", "-j3")):
        status, _, err = cli("mapping:no_threes", "--errors", file, *extra, data=numbers(500))
        assert status == 1
        assert err == f"atoll map: {len(bad)} of 500 records failed: see {file}\n"
        entries = [json.loads(line) for line in file.read_text().splitlines()]
        entries.sort(key=lambda entry: entry["number"])
        assert [entry["record"] for entry in entries] == bad
        assert [entry["number"] for entry in entries] == [int(n) + 1 for n in bad]
        assert entries[0]["exception"].startswith("ValueError: a three: 3")
        assert "in no_threes" in entries[0]["traceback"]
    status, _, err = cli("mapping:no_threes", "--on-error=report", data=numbers(500))
    assert (status, len(err.splitlines())) == (1, len(bad))


@pytest.mark.parametrize("function", ["half", "leaves", "surrogate"])
def test_ways_to_fail(function):
    status, out, err = cli(f"mapping:{function}", data=b"a\n")
    assert (status, out) == (1, b"")
    assert "record 1 failed: " in err


def test_a_worker_that_ends():
    status, out, err = cli("mapping:dies", data=b"a\n")
    assert (status, out) == (1, b"")
    assert "mapping:dies ended its worker: BaseException: enough (mapping.py:" in err


# --------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "args, says",
    [
        (["mapping"], "'mapping' is not MODULE:FUNCTION"),
        (["nowhere:f"], "no module 'nowhere': it is neither installed nor in "),
        (["mapping.nowhere:f"], "no module 'mapping.nowhere'"),
        (["mapping:uper"], "mapping has no 'uper'; did you mean 'upper'?"),
        (["mapping:number"], "mapping:number is of type int, and not a function"),
        (["mapping:waits"], "mapping:waits is an async function"),
        (["no/such.py:f"], "no file no/such.py"),
        (["no/such:f"], "'no/such' is no name of a module"),
        (["mapping:same", "nowhere.txt"], "cannot read nowhere.txt: No such file"),
        (["mapping:same", "/"], "/ is a directory"),
        (["mapping:same", "-o", "/no/such"], "cannot write /no/such: No such file"),
        (["mapping:same", "--preload", "nowhere"], "cannot preload nowhere: ModuleNotFound"),
        (["mapping:same", "--setup", "mapping:bad_set_up"], "mapping:bad_set_up failed: OSErr"),
        (["mapping:same", "--resume", "x"], "--resume needs -o"),
        (["mapping:same", "--batch", "0"], "invalid number of records value"),
        (["mapping:same", "--no-header"], "--no-header is for --csv"),
    ],
)
def test_mistakes(args, says):
    status, out, err = cli(*args)
    assert (status, out) == (2, b"")
    assert says in err and "Traceback" not in err
    assert len(err.splitlines()) == 1 or err.startswith("usage:")


def test_modules_that_fail(tmp_path):
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "needs.py").write_text("import nowhere_at_all\n")
    (tmp_path / "fails.py").write_text("\n1 / 0\n")
    for name, says in [
        ("syntax", "cannot import syntax: SyntaxError"),
        ("needs", "cannot import needs: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("fails", "cannot import fails: ZeroDivisionError: division by zero (fails.py:2)"),
    ]:
        for spec in (f"{name}:f", f"{name}.py:f"):
            status, _, err = cli(spec, cwd=tmp_path)
            assert status == 2
            assert says.replace(f"import {name}", f"import {spec[:-2]}") in err


def test_output_is_not_an_input(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"a\n")
    (tmp_path / "link").symlink_to(file)
    status, _, err = cli("mapping:same", file, "-o", tmp_path / "link")
    assert (status, file.read_bytes()) == (2, b"a\n")
    assert "would be written to" in err


def test_example_of_the_readme(tmp_path):
    for name, size in (("a.py", 3), ("b.py", 30), ("c.py", 1)):
        (tmp_path / name).write_bytes(b"#" * size)
    done = subprocess.run(
        ["sh", "-c", f"find . -name '*.py' | {' '.join(mapping.COMMAND)} os.path:getsize "
         "| sort -n | tail -n 3"],
        cwd=tmp_path, env=mapping.python_env(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("1\n3\n30\n", "")


def test_help():
    out = good("--help").decode()
    assert out.startswith("example: ")
    assert "usage: atoll map" in out


# --------------------------------------------------------------------- the bar


@pytest.mark.parametrize("rich", [True, False])
def test_bar(tmp_path, rich):
    file = tmp_path / "in"
    file.write_bytes(numbers(400))
    env = {"TERM": "xterm", "COLUMNS": "100"}
    if not rich:
        (tmp_path / "rich.py").write_text("raise ImportError\n")
        env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{HERE}"
    ours, theirs = pty.openpty()
    out = tmp_path / "out"
    process = mapping.start("mapping:slow", file, "-j1", "-o", out, stderr=theirs, env=env)
    os.close(theirs)
    said = b""
    try:
        while block := os.read(ours, 4096):
            said += block
    except OSError:
        pass  # the end of a terminal
    os.close(ours)
    assert process.wait(30) == 0
    assert b" records  " in said and b"/s" in said
    assert len(out.read_bytes().split()) == 400
    process.stdout.close()


# ------------------------------------------------------------------ the cutters


def cut_all(cutter, data, seed):
    """All batches of `data`, which comes in pieces."""
    dice = random.Random(seed)
    pieces, place = [], 0
    while place < len(data):
        size = dice.choice([1, 3, 10, 200])
        pieces.append(data[place : place + size])
        place += size
    batches = []
    for piece in (*pieces, END):
        cutter.feed(piece)
        exact = dice.choice([None, 1, 5]) if seed % 2 else None
        while batch := cutter.cut(dice.choice([1, 20, 100]), dice.random() < 0.5, exact):
            batches.append(batch)
            assert batch.size == len(batch.data)
            assert data[batch.offset - batch.size : batch.offset] == batch.data
    return batches


@pytest.mark.parametrize("seed", range(40))
def test_cutter(seed):
    dice = random.Random(seed)
    data = b"\n".join(b"x" * dice.choice([0, 1, 5, 300]) for _ in range(200))
    batches = cut_all(Cutter(b"\n"), data, seed)
    assert b"".join(batch.data for batch in batches) == data
    assert sum(batch.count for batch in batches) == len(data.splitlines())
    assert all(batch.data.endswith(b"\n") for batch in batches[:-1])


@pytest.mark.parametrize("seed", range(40))
def test_row_cutter(seed):
    dice = random.Random(seed)
    cells = ["a", 'b"', "c\n\nd", "", "\n" * 400, '"""', "é", "e\r\nf"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=dice.choice(["\n", "\r\n"]))
    writer.writerow(["one", "the\nother"])
    for _ in range(150):
        writer.writerow([dice.choice(cells), dice.choice(cells)])
    data = file.getvalue().encode()
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    batches = cut_all(RowCutter(True), data, seed)
    found = []
    for batch in batches:
        assert batch.header == rows[0]
        part = list(csv.reader(io.StringIO(batch.data.decode(), newline="")))
        assert len(part) == batch.count
        found += part
    assert found == rows[1:]


def test_row_cutter_with_stray_quotes():
    data = b'a,b\n5" disk,1\n6" disk,2\nx,"y\n'
    assert good("mapping:same", "--csv", "--batch=1", data=data) == (
        b'a,b\n"5"" disk",1\n"6"" disk",2\nx,"y\n"\n'
    )


def test_workers_are_gone_at_the_end():
    process = mapping.start("mapping:same", stdin=subprocess.DEVNULL)
    process.communicate(timeout=30)
    until(lambda: process.poll() is not None)
    assert process.returncode == 0
