/* Hooks of CPython's allocators, for test_allocators.py: as memory profilers have them.
 *
 * With `gil` they are as CPython's tracemalloc up to 3.14: that of the raw domain takes
 * the GIL, on whichever thread. Else they only count, as it should be. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define HOOKS 3

typedef struct hook {
    PyMemAllocatorEx beneath;
    int gil;
    long calls; /* atomic */
} hook;

static hook hooks[HOOKS];
static const PyMemAllocatorDomain domains[HOOKS] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM,
                                                    PYMEM_DOMAIN_OBJ};
static _Thread_local int inside;

static void
note(hook *h)
{
    __atomic_fetch_add(&h->calls, 1, __ATOMIC_RELAXED);
    if (h->gil && !inside) {
        inside = 1; /* PyGILState_Ensure allocates */
        PyGILState_Release(PyGILState_Ensure());
        inside = 0;
    }
}

static void *
hook_malloc(void *ctx, size_t size)
{
    hook *h = ctx;
    note(h);
    return h->beneath.malloc(h->beneath.ctx, size);
}

static void *
hook_calloc(void *ctx, size_t count, size_t size)
{
    hook *h = ctx;
    note(h);
    return h->beneath.calloc(h->beneath.ctx, count, size);
}

static void *
hook_realloc(void *ctx, void *ptr, size_t size)
{
    hook *h = ctx;
    note(h);
    return h->beneath.realloc(h->beneath.ctx, ptr, size);
}

static void
hook_free(void *ctx, void *ptr)
{
    hook *h = ctx;
    h->beneath.free(h->beneath.ctx, ptr);
}

static PyObject *
install(PyObject *Py_UNUSED(self), PyObject *gil)
{
    for (int i = 0; i < HOOKS; i++) {
        hooks[i].gil = i == 0 && PyObject_IsTrue(gil);
        PyMem_GetAllocator(domains[i], &hooks[i].beneath);
        PyMemAllocatorEx above = {&hooks[i], hook_malloc, hook_calloc, hook_realloc,
                                  hook_free};
        PyMem_SetAllocator(domains[i], &above);
    }
    Py_RETURN_NONE;
}

static PyObject *
calls(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(__atomic_load_n(&hooks[0].calls, __ATOMIC_RELAXED));
}

static PyMethodDef methods[] = {
    {"install", install, METH_O, NULL},
    {"calls", calls, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "hooks", .m_size = -1,
                                 .m_methods = methods};

PyMODINIT_FUNC
PyInit_hooks(void)
{
    return PyModule_Create(&definition);
}
