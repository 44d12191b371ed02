"""tools/lint_c.py refuses what tools/rooms.toml does not allow: one violation of each
rule is planted in a small house, which is without a fault before."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINT = ROOT / "tools" / "lint_c.py"

TABLE = """
[limits]
lines = 800
files = 3
circle = 2
[rooms.base]
floor = 1
job = "what all use"
uses = []
doors = ["base.h"]
[rooms.wait]
floor = 2
job = "waiting"
uses = []
doors = ["wait.h"]
[rooms.pool]
floor = 3
job = "tasks"
uses = ["wait"]
doors = ["pool.h"]
"""

HOUSE = {
    ".clang-format": "ColumnLimit: 88\n",
    "tools/rooms.toml": TABLE,
    "ext/base/base.h": "int base_one(void);\n",
    "ext/base/base.c": '#include "base/base.h"\nint base_one(void) { return 1; }\n',
    "ext/wait/wait.h": "int wait_two(void);\n",
    "ext/wait/inside.h": "int wait_inside(void);\n",
    "ext/wait/wait.c": '#include "base/base.h"\n#include "wait/inside.h"\n'
    '#include "wait/wait.h"\nint wait_two(void) { return base_one() + 1; }\n'
    "int wait_inside(void) { return 0; }\n",
    "ext/pool/pool.h": "int pool_three(void);\n",
    "ext/pool/pool.c": '#include "pool/pool.h"\n#include "wait/wait.h"\n'
    "int pool_three(void) { return wait_two() + 1; }\n",
    "core/meson.build": "",
    "core/src/at_one.h": "",
    "python/meson.build": "",
    "tests/c/meson.build": "",
}


class House:
    def __init__(self, root):
        self.root = root
        for name, text in HOUSE.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def append(self, name, text):
        self.write(name, (self.root / name).read_text() + text)

    def lint(self):
        sources = sorted(p.relative_to(self.root / "ext") for p in self.root.glob("ext/**/*.c"))
        self.write("ext/meson.build", "".join(f"'{name.as_posix()}'\n" for name in sources))
        objects = self.root / "build" / "ext-3.14" / "ext" / "_core.so.p"
        objects.mkdir(parents=True, exist_ok=True)
        for name in sources:
            source = self.root / "ext" / name
            target = objects / (name.as_posix().replace("/", "_") + ".o")
            command = ["cc", "-w", "-c", "-I", self.root / "ext", source, "-o", target]
            subprocess.run(command, check=True)
        return subprocess.run(
            [sys.executable, LINT, "--objects", objects, self.root],
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def house(tmp_path):
    if shutil.which("cc") is None or shutil.which("nm") is None:
        pytest.skip("there is no compiler")
    return House(tmp_path)


def test_a_house_without_a_fault(house):
    done = house.lint()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "0 circles across rooms, the largest inside one has 0 files" in done.stdout


@pytest.mark.parametrize(
    "name, more, said",
    [
        ("ext/wait/wait.c", '#include "pool/pool.h"\n', "wait may not use pool"),
        ("ext/pool/pool.c", '#include "wait/inside.h"\n', "no door of wait"),
        ("ext/pool/pool.c", '#include "wait/gone.h"\n', "no header of a room"),
        ("ext/wait/wait.c", "int pool_three(void);\n", "a prototype in a .c file"),
        ("ext/pool/pool.c", "long x = sizeof(PyDictObject *);\n", "only in ext/cpython/"),
        ("ext/pool/pool.c", "int y = _PyThing;\n", "only in ext/cpython/"),
        (
            "tools/rooms.toml",
            ('uses = ["wait"]', 'uses = ["home"]'),
            "pool uses home, which is no room",
        ),
        (
            "tools/rooms.toml",
            ('uses = []\ndoors = ["wait.h"]', 'uses = ["pool"]\ndoors = ["wait.h"]'),
            "wait uses pool, which is not on a lower floor",
        ),
        (
            "tools/rooms.toml",
            ('["wait.h"]', '["wait.h", "door.h"]'),
            "the door wait/door.h is not there",
        ),
        ("ext/hall/hall.h", "", "in no room"),
        ("ext/hall.h", "", "in no room"),
        ("ext/pool/pool.c", "\n" * 800, "longer than 800 lines"),
        ("ext/pool/pool.c", "/* " + 90 * "a" + " */\n", "more than the 88 of .clang-format"),
        ("ext/pool/pool.c", "void f(void) { usleep(1); }\n", "nothing sleeps"),
        ("ext/pool/pool.c", "#include <pthread.h>\n", "only in core/src/port_*.c"),
        ("ext/pool/pool.c", "#include <stdatomic.h>\n", "atomics only"),
        ("core/src/at_one.h", "#include <Python.h>\n", "only ext/ includes Python's headers"),
    ],
)
def test_a_planted_violation_is_found(house, name, more, said):
    """`more` is put in front of the file, or a text in it is replaced. The objects are not
    looked at, so it need not compile."""
    path = house.root / name
    old = path.read_text() if path.exists() else ""
    house.write(name, more + old if isinstance(more, str) else old.replace(*more))
    done = subprocess.run(
        [sys.executable, LINT, house.root], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stdout


def test_a_call_up_without_an_include_is_found(house):
    """Declared by hand, where the lint of the text does not look: in a macro."""
    house.append(
        "ext/wait/wait.c",
        "#define DECLARE(name) int name(void)\nDECLARE(pool_three);\n"
        "int wait_up(void) { return pool_three(); }\n",
    )
    done = house.lint()
    assert done.returncode == 1
    assert "needs pool_three of ext/pool/pool.c: wait may not use pool" in done.stdout
    assert "a circle of 2 files" in done.stdout


def test_a_circle_inside_a_room_that_is_too_large_is_found(house):
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        house.write(
            f"ext/hall/{name}.c",
            f'#include "hall/hall.h"\nint hall_{name}(void) {{ return hall_{other}(); }}\n',
        )
    house.write("ext/hall/hall.h", "int hall_a(void), hall_b(void), hall_c(void);\n")
    room = '[rooms.hall]\nfloor = 4\njob = ""\nuses = []\ndoors = []\n'
    house.append("tools/rooms.toml", room)
    done = house.lint()
    assert done.returncode == 1
    assert "a circle of 3 files: hall/a.c, hall/b.c, hall/c.c" in done.stdout
    assert "4 files: more than 3 in a folder" in done.stdout


def test_what_is_built_of_older_sources_is_not_believed(house):
    assert house.lint().returncode == 0
    objects = house.root / "build" / "ext-3.14" / "ext" / "_core.so.p"
    (objects / "pool_pool.c.o").unlink()
    done = subprocess.run(
        [sys.executable, LINT, "--objects", objects, house.root],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pool_pool.c.o is missing, or older than its source" in done.stdout
