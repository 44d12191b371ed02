"""Packages with extension modules, made by hand: compiled, and with metadata."""

import os
import subprocess
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES

SOURCE = r"""
#include <Python.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

static int counter; /* what must not be shared */

#define IN_MAIN (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0)

static int
run(PyObject *module)
{
    (void)module;
    counter++;
#ifdef CRASH
    if (!IN_MAIN) {
        *(volatile int *)NULL = 1;
    }
#endif
#ifdef ABORT
    if (!IN_MAIN) {
        fprintf(stderr, "free(): invalid size\n");
        abort();
    }
#endif
#ifdef LEAVE
    if (!IN_MAIN) {
        _exit(3);
    }
#endif
#ifdef RAISE
    if (!IN_MAIN) {
        PyErr_SetString(PyExc_RuntimeError, "not\nhere");
        return -1;
    }
#endif
#ifdef RAISE_ALWAYS
    PyErr_SetString(PyExc_OSError, "no such device");
    return -1;
#endif
#ifdef SLEEP
    if (!IN_MAIN) {
        const char *mark = getenv("ATOLL_TEST_MARK");
        if (mark != NULL) {
            FILE *file = fopen(mark, "w");
            fprintf(file, "%d\n", (int)getpid());
            fclose(file);
        }
        for (;;) {
            pause();
        }
    }
#endif
#ifdef ONCE
    /* As modules do that keep to themselves what the process has once. */
    if (!IN_MAIN) {
        if (getenv("ATOLL_TEST_ONCE") != NULL) {
            PyErr_SetString(PyExc_ImportError, "only once");
            return -1;
        }
        setenv("ATOLL_TEST_ONCE", "1", 1);
    }
#endif
#ifdef NEEDS
    extern int needed(void);
    counter += needed();
#endif
    return 0;
}

static void
release(void *module)
{
    (void)module;
#ifdef CRASH_LATE
    if (!IN_MAIN) {
        *(volatile int *)NULL = 1;
    }
#endif
}

#ifndef SINGLE
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, run},
#ifdef DECLARED
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};
#endif

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = TEXT(NAME),
#ifdef SINGLE
    .m_size = -1,
#else
    .m_size = 8,
    .m_slots = slots,
    .m_free = release,
#endif
};

PyMODINIT_FUNC
JOIN(PyInit_, NAME)(void)
{
#ifdef SINGLE
    (void)release;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && run(module) < 0) {
        Py_CLEAR(module);
    }
    return module;
#else
    return PyModuleDef_Init(&definition);
#endif
}
"""


def compile_c(source, target, *options):
    subprocess.run(
        [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-Wall", "-x", "c", "-",
         f"-I{sysconfig.get_path('include')}", "-o", str(target), *options],
        input=source, text=True, check=True,
    )  # fmt: skip


def extension(site, name, *kinds, suffix=EXTENSION_SUFFIXES[0], options=()):
    """Compile the module of that dotted name; returns its path in `site`."""
    *folders, last = name.split(".")
    path = site.joinpath(*folders, last + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    defines = [f"-D{kind}" for kind in kinds]
    # CPython calls m_free only of modules whose state it has allocated.
    compile_c(SOURCE, path, f"-DNAME={last}", "-Wno-unused-function", *defines, *options)
    return path.relative_to(site)


def python(site, name, source=""):
    """Write a module; a name that ends with a dot is a package's."""
    path = site.joinpath(*name.split("."))
    path = path / "__init__.py" if name.endswith(".") else path.with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path.relative_to(site)


def distribution(site, name, files, *, version="1.0", record=True):
    """The metadata of a distribution, with its RECORD or without."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    if record:
        lines = [f"{path},," for path in (*files, info.relative_to(site) / "METADATA")]
        (info / "RECORD").write_text("\n".join([*lines, "../../../bin/tool,,"]) + "\n")
    else:
        tops = sorted({path.parts[0].partition(".")[0] for path in files})
        (info / "top_level.txt").write_text("\n".join(tops) + "\n")


def make_all(site):
    """Everything that the tests of the doctor look at."""
    for name, *kinds in (
        ("adt_plain",),
        ("adt_declared", "DECLARED"),
        ("adt_single", "SINGLE"),
        ("adt_crash", "CRASH"),
        ("adt_abort", "ABORT"),
        ("adt_leave", "LEAVE"),
        ("adt_raise", "RAISE"),
        ("adt_broken", "RAISE_ALWAYS"),
        ("adt_sleep", "SLEEP"),
        ("adt_late", "CRASH_LATE"),
        ("adt_once", "ONCE"),
    ):
        distribution(site, name.replace("_", "-"), [extension(site, name, *kinds)])

    library = site / "libadt_needed.so"
    compile_c("int needed(void) { return 1; }", library, "-Wl,-soname,libadt_needed.so")
    needing = extension(site, "adt_missing", "NEEDS", options=["-x", "none", str(library)])
    library.unlink()
    distribution(site, "adt-missing", [needing])

    # Of many parts: one crashes, one is for tests, one is no module at all.
    data = site / "adt_suite" / "libdata.so"
    data.parent.mkdir()
    compile_c("int data(void) { return 1; }", data)
    distribution(
        site,
        "Adt.Suite",
        [
            python(site, "adt_suite."),
            python(site, "adt_suite.tests."),
            extension(site, "adt_suite.first"),
            extension(site, "adt_suite.middle", "CRASH"),
            extension(site, "adt_suite.part", suffix=".so"),
            extension(site, "adt_suite.private", "RAISE_ALWAYS"),
            extension(site, "adt_suite.tests.probe", "RAISE"),
            data.relative_to(site),
        ],
        version="2.5",
    )
    distribution(
        site,
        "adt-unlisted",
        [python(site, "adt_unlisted."), extension(site, "adt_unlisted.inner")],
        record=False,
    )
    distribution(site, "adt-pure", [python(site, "adt_pure", "print('hello' * 1000)")])
    distribution(
        site,
        "adt-noisy",
        [
            extension(site, "adt_noisy._inner"),
            python(
                site,
                "adt_noisy.",
                "import os, sys\n"
                "print('{\"begin\": 1}', flush=True)\n"
                "print('noise', file=sys.stderr)\n"
                "os.write(1, b'more noise\\n')\n"
                "assert sys.stdin.read() == ''\n",
            ),
        ],
    )
    # Dies at exit whatever was done, and only if it was used in an interpreter.
    for name, condition in (("adt_exit", "True"), ("adt_exit_after", "os.path.exists(used)")):
        distribution(
            site,
            name.replace("_", "-"),
            [
                extension(site, f"{name}._inner"),
                python(
                    site,
                    f"{name}.",
                    "import _interpreters, atexit, os\n"
                    "used = f'{__file__}-{os.getpid()}'\n"
                    "if _interpreters.get_current()[0]:\n"
                    "    open(used, 'w').close()\n"
                    "else:\n"
                    f"    atexit.register(lambda: {condition} and os._exit(5))\n",
                ),
            ],
        )
