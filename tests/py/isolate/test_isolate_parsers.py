"""Private copies that have used the parser of keywords which Argument Clinic writes."""

import sysconfig

import pytest
from packages import compile_c
from support import check_python

# What Argument Clinic writes for `f(one, /, two=0)`: a static struct, which CPython puts
# in a list of the process when it is first used.
SOURCE = r"""
#include <Python.h>

static PyObject *
f(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static const char *const names[] = {"", "two", "NAME_three", NULL};
    static _PyArg_Parser parser = {.format = "O|OO:f", .keywords = names};
    static _PyArg_Parser again = {.format = "O|OO:g", .keywords = names};
    PyObject *one, *two = Py_None, *three = Py_None;
    if (!_PyArg_ParseTupleAndKeywordsFast(args, kwargs, &parser, &one, &two, &three) ||
        !_PyArg_ParseTupleAndKeywordsFast(args, kwargs, &again, &one, &two, &three)) {
        return NULL;
    }
    return PyTuple_Pack(2, one, two);
}

static PyMethodDef methods[] = {
    {"f", (PyCFunction)(void (*)(void))f, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "clinic", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC
PyInit_clinic(void)
{
    return PyModuleDef_Init(&definition);
}
"""

HEAD = """
import sys
sys.path.insert(0, {place!r})
import atoll, gc, threading
USE = "import clinic; assert clinic.f(1, two=2) == (1, 2)"
def copies():
    with open("/proc/self/maps") as file:
        return sum("clinic" in line for line in file)
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    place = tmp_path_factory.mktemp("clinic")
    compile_c(SOURCE, place / f"clinic{sysconfig.get_config_var('EXT_SUFFIX')}")
    return HEAD.format(place=str(place))


CASES = {
    "one": """
with atoll.create() as i: i.exec(USE)
assert copies() == 0, copies()""",
    "one after another": """
for _ in range(10):
    with atoll.create() as i: i.exec(USE)
assert copies() == 0""",
    "the middle one first": """
made = [atoll.create() for _ in range(5)]
for i in made: i.exec(USE)
for k in (2, 0, 4, 3, 1):
    made[k].close()
    for i in made:
        if i in atoll.list_all(): i.exec(USE)
assert copies() == 0""",
    "main, too": """
with atoll.create() as i: i.exec(USE)
exec(USE)
with atoll.create() as i: i.exec(USE)
exec(USE)
assert copies() > 0""",
    "at once": """
def run():
    for _ in range(8):
        with atoll.create() as i: i.exec(USE)
threads = [threading.Thread(target=run) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert copies() == 0""",
    "they stay open": """
made = [atoll.create() for _ in range(2)]
for i in made: i.exec(USE)""",
    "in a pool": """
def work(x):
    exec(USE)
    return x
with atoll.InterpreterPoolExecutor(2, max_tasks_per_child=1) as pool:
    assert list(pool.map(work, range(6))) == [*range(6)]
assert copies() == 0""",
    "a forked child": """
import os
i = atoll.create()
i.exec(USE)
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    i.close()
else:
    with atoll.create() as j: j.exec(USE)""",
}


@pytest.mark.parametrize("case", CASES)
def test_the_process_ends_in_good_order(head, case):
    check_python(head + CASES[case], options=("-W", "ignore"))


def test_the_names_are_given_back(head):
    """Tuples of them are main's, though the copies are not."""
    check_python(
        head
        + """
gc.disable()  # it would forget tuples of str
name = sys.intern("NAME_three")
def tuples():
    for _ in range(1000): pass  # what is pending is done
    return sum(x == ("two", name) for x in gc.get_referrers(name))
i = atoll.create()
i.exec(USE)
assert tuples() == 2
for _ in range(5):
    with atoll.create() as j: j.exec(USE)
assert tuples() == 2
i.close()
assert tuples() == 0
"""
    )
