"""Private copies: several modules of one file, and threads that come from outside."""

import itertools
import sysconfig

import pytest
from packages import compile_c
from support import check_python

# Two modules that say nothing of interpreters, and one that supports them.
SEVERAL = r"""
#include <Python.h>

static int runs; /* of this copy */

static int
exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "runs", ++runs);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec}, {0, NULL}};
static PyModuleDef_Slot declared_slots[] = {
    {Py_mod_exec, exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

#define MODULE(name, its_slots)                                                    \
    static PyModuleDef name##_def = {                                              \
        PyModuleDef_HEAD_INIT, .m_name = #name, .m_slots = its_slots};             \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModuleDef_Init(&name##_def); }

MODULE(one, slots)
MODULE(two, slots)
MODULE(declared, declared_slots)
"""

LOAD = """
import importlib.machinery, importlib.util
def load(name):
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module.runs
counts = [load(name) for name in names]
"""


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / f"one{sysconfig.get_config_var('EXT_SUFFIX')}"
    compile_c(SEVERAL, path)
    return str(path)


@pytest.mark.parametrize("order", [*itertools.permutations(("one", "two", "declared"))])
def test_each_module_of_a_file_speaks_for_itself(several, order):
    """What one declares decides for no other: nor in a second interpreter."""
    check_python(f"""
import atoll
def of(i, what):
    queue = atoll.create_queue()
    i.prepare_main(queue=queue)
    i.exec(f"queue.put({{what}})")
    return queue.get()
with atoll.create() as first, atoll.create() as second:
    for i in first, second:
        i.prepare_main(path={several!r}, names={order!r})
        i.exec({LOAD!r})
        counts = dict(zip({order!r}, of(i, "counts")))
        # They are in one copy, which is the interpreter's own.
        assert sorted((counts["one"], counts["two"])) == [1, 2], counts
    # And the one that supports it is loaded once for all.
    assert of(second, "counts")[{order.index("declared")}] == 2
""")


# A thread of the module's own calls back, as those of audio and event libraries do.
FOREIGN = r"""
#include <Python.h>
#include <pthread.h>

static PyObject *
ensure_release(PyObject *self, PyObject *unused)
{
    PyGILState_STATE outer = PyGILState_Ensure();
    PyGILState_STATE inner = PyGILState_Ensure();
    PyGILState_Release(inner);
    PyGILState_Release(outer);
    Py_RETURN_NONE;
}

static PyObject *
let_go(PyObject *self, PyObject *unused)
{
    Py_BEGIN_ALLOW_THREADS
    PyGILState_STATE state = PyGILState_Ensure();
    PyGILState_Release(state);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static void *
run(void *callback)
{
    for (int i = 0; i < 3; i++) {
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *result = PyObject_CallNoArgs(callback);
        if (result == NULL) {
            PyErr_Print();
        }
        Py_XDECREF(result);
        PyGILState_Release(state);
    }
    return NULL;
}

static PyObject *
call(PyObject *self, PyObject *callback)
{
    pthread_t thread;
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = pthread_create(&thread, NULL, run, callback);
    if (rc == 0) {
        pthread_join(thread, NULL);
    }
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(rc);
}

static PyMethodDef methods[] = {
    {"call", call, METH_O, NULL},
    {"ensure_release", ensure_release, METH_NOARGS, NULL},
    {"let_go", let_go, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};
static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "foreign", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC
PyInit_foreign(void)
{
    return PyModuleDef_Init(&definition);
}
"""


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    place = tmp_path_factory.mktemp("foreign")
    compile_c(FOREIGN, place / f"foreign{sysconfig.get_config_var('EXT_SUFFIX')}", "-pthread")
    return str(place)


@pytest.mark.parametrize("function", ["ensure_release", "let_go"])
def test_the_end_of_a_foreign_thread_takes_the_gil_again(foreign, function):
    """The objects that it has in thread-locals do, when its state is cleared."""
    out = check_python(f"""
import sys
sys.path.insert(0, {foreign!r})
import atoll
code = '''
import foreign, threading
ended = []
class Local:
    def __del__(self):
        foreign.{function}()
        self.another = threading.local()
        ended.append(threading.get_ident())
local = threading.local()
def callback():
    local.x = Local()
assert foreign.call(callback) == 0
print(len(ended))
'''
exec(code)
with atoll.create() as i, atoll.create() as other:
    i.exec(code)
    other.exec(code)
""")
    assert out.split() == ["3", "3", "3"]
