/* tracemalloc and other hooks of CPython's allocators, in a process with interpreters.
 *
 * The hooks are the process's, and tracemalloc's know one interpreter. Up to 3.14 the
 * one of the raw domain takes main's GIL on a thread that has no thread state: it waits
 * for itself when CPython makes an interpreter there, holding its lock of interpreters.
 * And a trace refers to the names of files as str objects: of an interpreter that has
 * ended, whose memory is gone, or of one that runs, whose counts are changed from main.
 * On all versions every allocation of every interpreter waits for one lock, and takes
 * some ten times as long.
 *
 * So what is traced is main. A layer above the hooks of tracemalloc sends to them what
 * threads of main ask for, and all others to what is beneath them. No block has a
 * header, so either can free it; what another thread frees or moves has its trace
 * removed. Other hooks see all interpreters, as their makers have meant them to.
 *
 * The layer has to be there before an interpreter allocates through tracemalloc's
 * hooks, and CPython does not expect anybody to allocate while an allocator is changed:
 * an allocator is five words, which are written and read one by one. So start() and
 * stop() of the module _tracemalloc are replaced, in the table of its methods, which
 * all who have got them already use as well: all others are held still (wait/visit.h)
 * while CPython's own run. */
#include "isolate/isolate.h"

#include <dlfcn.h>

#include "cpython/runtime.h"
#include "wait/visit.h"

enum { RAW, MEM, OBJ, LAYERS };

static const PyMemAllocatorDomain layer_domains[LAYERS] = {
    [RAW] = PYMEM_DOMAIN_RAW, [MEM] = PYMEM_DOMAIN_MEM, [OBJ] = PYMEM_DOMAIN_OBJ};

/* tracemalloc's hook. Its context is the allocator beneath. Constant while the layer is
 * in use: it is the same each time. */
typedef struct layer {
    PyMemAllocatorEx hook;
    bool raw;
} layer;

static layer layers[LAYERS];
static PyInterpreterState *traced_interp; /* main; constant once there is a layer */
static PyRefTracer traced_refs;           /* as layers */

static bool layer_missing; /* written by main with others held still, read by who makes
                            * an interpreter, after unsteady_begin: tracemalloc traces,
                            * and it cannot be there */

/* ------------------------------------------------------------------- the layer */

static inline bool
layer_traces(const layer *l)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    if (ts == NULL && l->raw) {
        /* A thread of main's that has let go of the GIL: as CPython does it. */
        ts = PyGILState_GetThisThreadState();
    }
    return ts != NULL && ts->interp == traced_interp;
}

static inline const PyMemAllocatorEx *
layer_beneath(const layer *l)
{
    return l->hook.ctx;
}

static inline const PyMemAllocatorEx *
layer_way(const layer *l)
{
    return layer_traces(l) ? &l->hook : layer_beneath(l);
}

static void *
layer_malloc(void *ctx, size_t size)
{
    const PyMemAllocatorEx *way = layer_way(ctx);
    return way->malloc(way->ctx, size);
}

static void *
layer_calloc(void *ctx, size_t count, size_t size)
{
    const PyMemAllocatorEx *way = layer_way(ctx);
    return way->calloc(way->ctx, count, size);
}

static void *
layer_realloc(void *ctx, void *ptr, size_t size)
{
    const layer *l = ctx;
    const PyMemAllocatorEx *way = layer_way(l);
    if (l->raw && way != &l->hook && ptr != NULL &&
        PyThreadState_GetUnchecked() != NULL) {
        /* Memory that main has sent. Without a thread state it would take a GIL. */
        (void)PyTraceMalloc_Untrack(0, (uintptr_t)ptr);
    }
    return way->realloc(way->ctx, ptr, size);
}

static void
layer_free(void *ctx, void *ptr)
{
    const layer *l = ctx;
    /* Raw memory may come from main; the hook of free needs no GIL. */
    const PyMemAllocatorEx *way = l->raw ? &l->hook : layer_way(l);
    way->free(way->ctx, ptr);
}

/* The tracer of new objects looks for the trace of each, under the one lock. */
static int
layer_tracer(PyObject *obj, PyRefTracerEvent event, void *data)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    return ts != NULL && ts->interp == traced_interp ? traced_refs(obj, event, data)
                                                     : 0;
}

/* ------------------------------------------------------------- is it tracing */

/* Attached: without a thread state some versions would take main's GIL. */
static bool
tracing_is_on(void)
{
    /* No block has this domain: nothing is removed. */
    return PyTraceMalloc_Untrack(UINT_MAX, 0) != -2;
}

/* Is this one of tracemalloc's? The context is then one of its structs in CPython's
 * static memory, and what is there is an allocator. */
static bool
tracing_hook_is(const PyMemAllocatorEx *hook)
{
    size_t size;
    const char *begin = runtime_memory(&size);
    const char *ctx = hook->ctx;
    return ctx >= begin && ctx + sizeof(PyMemAllocatorEx) <= begin + size &&
           (uintptr_t)ctx % _Alignof(PyMemAllocatorEx) == 0 &&
           ((const PyMemAllocatorEx *)hook->ctx)->malloc != NULL;
}

/* Are tracemalloc's the uppermost hooks? All three have one function `free`. */
static bool
tracing_is_uppermost(PyMemAllocatorEx hooks[LAYERS])
{
    bool it_is = true;
    for (int i = 0; i < LAYERS; i++) {
        PyMem_GetAllocator(layer_domains[i], &hooks[i]);
        it_is = it_is && tracing_hook_is(&hooks[i]) && hooks[i].free == hooks[0].free;
    }
    return it_is;
}

/* Put the layer above tracemalloc's hooks. Others are held still, or there are none. */
static void
layer_put(void)
{
    PyMemAllocatorEx hooks[LAYERS];
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &hooks[RAW]);
    bool there = hooks[RAW].malloc == layer_malloc;
    if (!there && tracing_is_uppermost(hooks)) {
        traced_interp = PyInterpreterState_Main();
        void *data;
        PyRefTracer tracer = PyRefTracer_GetTracer(&data);
        if (tracer != NULL && tracer != layer_tracer) {
            traced_refs = tracer;
            (void)PyRefTracer_SetTracer(layer_tracer, data);
        }
        for (int i = 0; i < LAYERS; i++) {
            layers[i] = (layer){.hook = hooks[i], .raw = i == RAW};
        }
        for (int i = 0; i < LAYERS; i++) {
            PyMemAllocatorEx above = {&layers[i], layer_malloc, layer_calloc,
                                      layer_realloc, layer_free};
            PyMem_SetAllocator(layer_domains[i], &above);
        }
        there = true;
    }
    layer_missing = !there;
}

/* ------------------------------------------------------------- start and stop */

static PyCFunctionFast tracing_start; /* CPython's own; constant once replaced */
static PyCFunction tracing_stop;

#define ATTEMPTS 10

/* -1 with an exception. 0: not all are still. */
static int
hold_still(int attempts, int64_t *in_way)
{
    *in_way = -1;
    core_state *state = core_state_import();
    if (state == NULL) {
        PyErr_Clear(); /* Python is ending */
    }
    for (int i = 0; i < attempts && state != NULL; i++) {
        if (still_begin(state, in_way)) {
            return 1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return 0;
}

static void
start_refused(int64_t in_way)
{
    char who[64] = "an interpreter has been coming or going";
    if (in_way >= 0) {
        PyOS_snprintf(who, sizeof(who), "interpreter %lld has not let go of its GIL",
                      (long long)in_way);
    }
    PyErr_Format(
        PyExc_RuntimeError,
        "tracemalloc cannot start now: %s for a while; start it later, or before "
        "the first interpreter (python -X tracemalloc)",
        who);
}

static PyObject *
start_between(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (tracing_is_on()) {
        return tracing_start(module, args, nargs);
    }
    int64_t in_way;
    int still = hold_still(ATTEMPTS, &in_way);
    if (still == 0) {
        start_refused(in_way);
    }
    if (still <= 0) {
        return NULL;
    }
    PyObject *result = tracing_start(module, args, nargs);
    if (result != NULL) {
        layer_put();
    }
    still_end();
    return result;
}

static PyObject *
stop_between(PyObject *module, PyObject *ignored)
{
    if (!tracing_is_on()) {
        return tracing_stop(module, ignored);
    }
    int64_t in_way;
    int still = hold_still(ATTEMPTS / 5, &in_way);
    if (still < 0) {
        return NULL;
    }
    /* If not all are still, it is more likely to work than to be never stopped. */
    PyObject *result = tracing_stop(module, ignored);
    if (!tracing_is_on()) {
        layer_missing = false;
    }
    if (still > 0) {
        still_end();
    }
    return result;
}

/* Replace one of the methods; false: it is not as we know it. */
static bool
tracing_replace(PyObject *module, const char *name, int flags, PyCFunction ours,
                PyCFunction *theirs)
{
    PyObject *function = PyObject_GetAttrString(module, name);
    bool known = function != NULL && PyCFunction_Check(function) &&
                 PyCFunction_GET_FLAGS(function) == flags;
    if (known && PyCFunction_GET_FUNCTION(function) != ours) {
        *theirs = PyCFunction_GET_FUNCTION(function);
        ((PyCFunctionObject *)function)->m_ml->ml_meth = ours;
    }
    Py_XDECREF(function);
    PyErr_Clear();
    return known;
}

int
tracing_begin(const core_state *state)
{
    if (!state->is_main) {
        return 0; /* CPython refuses the module there; main's is the one */
    }
    PyObject *module = PyImport_ImportModule("_tracemalloc");
    if (module == NULL) {
        PyErr_Clear(); /* a CPython without it */
        return 0;
    }
    /* If they are not known, isolate/tracing.c finds out when an interpreter is made.
     */
    PyCFunction theirs = NULL;
    if (tracing_replace(module, "start", METH_FASTCALL,
                        (PyCFunction)(void (*)(void))start_between, &theirs) &&
        theirs != NULL) {
        tracing_start = (PyCFunctionFast)(void (*)(void))theirs;
    }
    (void)tracing_replace(module, "stop", METH_NOARGS, stop_between, &tracing_stop);
    Py_DECREF(module);
    if (tracing_is_on()) {
        layer_put(); /* there is no interpreter of ours yet */
    }
    return 0;
}

/* ------------------------------------------------------- making an interpreter */

/* Is it a function of CPython's own object? */
static bool
tracing_is_cpythons(const PyMemAllocatorEx *hook)
{
    Dl_info hooks, cpythons;
    return dladdr((void *)(uintptr_t)hook->malloc, &hooks) != 0 &&
           dladdr((void *)(uintptr_t)PyMem_RawMalloc, &cpythons) != 0 &&
           hooks.dli_fbase == cpythons.dli_fbase;
}

const char *
tracing_forbids(bool *beside_main)
{
    PyMemAllocatorEx raw;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    const PyMemAllocatorEx *lowest =
        raw.malloc == layer_malloc ? layer_beneath(&layers[RAW]) : &raw;
    *beside_main = !tracing_is_cpythons(lowest);
    return layer_missing && PY_VERSION_HEX < 0x030F0000
               ? "tracemalloc traces beneath another hook of CPython's allocators, "
                 "which interpreters do not survive on this version of Python: call "
                 "tracemalloc.stop(), or start it last"
               : NULL;
}

int
tracing_track(unsigned int Py_UNUSED(domain), uintptr_t Py_UNUSED(ptr),
              size_t Py_UNUSED(size), isolate *Py_UNUSED(iso))
{
    return -2; /* as if tracemalloc did not trace */
}
