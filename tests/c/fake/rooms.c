/* The rooms that need real objects, as little of them as the rooms under test call. See
 * fake/fake.h. */
#include "fake/fake.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "at_atomic.h"
#include "cpython/runtime.h"
#include "frozen/frozen.h"
#include "isolate/isolate.h"
#include "wait/visit.h"
#include "wire/wire.h"

/* ------------------------------------------------------------------------ base */

PyObject *
raise_error(core_state *Py_UNUSED(state), const char *Py_UNUSED(name),
            const char *format, ...)
{
    return fake_raise(PyExc_RuntimeError, format);
}

PyObject *
error_class(core_state *Py_UNUSED(state), const char *Py_UNUSED(name))
{
    return PyExc_TypeError;
}

int
core_add_constants(core_state *Py_UNUSED(state), const core_constant *table)
{
    (void)table;
    return 0;
}

PyObject *
package_import(package_module Py_UNUSED(module))
{
    return fake_thing();
}

PyObject *
package_keep(PyObject **slot, package_module Py_UNUSED(module),
             const char *Py_UNUSED(name))
{
    if (*slot == NULL) {
        *slot = fake_thing();
    }
    return *slot;
}

/* --------------------------------------- what atoll/_boot.py does, and streams */

#define POLL_NS 100000
/* What join_daemons gives threads, here. */
#define DAEMON_NS 20000000

static void
join_threads(void)
{
    while (fake_count_threads(FAKE_PLAIN) > 0) {
        fake_sleep(POLL_NS);
    }
}

static void
join_daemons(void)
{
    int64_t end = atoll_now() + DAEMON_NS;
    fake_end_daemons();
    while (fake_count_threads(FAKE_DAEMON) > 0 && atoll_now() < end) {
        fake_sleep(POLL_NS);
    }
}

/* The five that describe an exception; the last is its text. */
static PyObject *
capture(PyObject *exc)
{
    return Py_BuildValue("OOOON", Py_None, Py_None, Py_None, Py_None,
                         PyUnicode_FromString(fake_text(exc)));
}

static PyObject *
call(core_state *state, const char *name)
{
    for (PyMethodDef *def = sink_functions; def->ml_name != NULL; def++) {
        if (strcmp(def->ml_name, "_sink") == 0) {
            PyObject *kind = PyLong_FromLong(strcmp(name, "stderr") == 0);
            PyObject *sink = def->ml_meth((PyObject *)state, kind);
            Py_DECREF(kind);
            return sink;
        }
    }
    return NULL;
}

PyObject *
package_call(package_module module, const char *name, const char *format, ...)
{
    if (fake_locks_held() > 0) {
        fake_fatal("the package is called with a lock held");
    }
    if (fake_look()) { /* as the code of any function */
        return NULL;
    }
    if (strcmp(name, "join_threads") == 0) {
        join_threads();
    }
    else if (strcmp(name, "join_daemons") == 0) {
        join_daemons();
    }
    else if (strcmp(name, "run_exit_handlers") == 0) {
        fake_run_exit_handler();
    }
    else if (strcmp(name, "threads_in_the_way") == 0) {
        return PyUnicode_FromString("threads");
    }
    else if (strcmp(name, "cancel_coroutine") == 0) {
        return Py_NewRef(Py_False);
    }
    else if (strcmp(name, "capture") == 0) {
        va_list args;
        va_start(args, format);
        PyObject *info = capture(va_arg(args, PyObject *));
        va_end(args);
        return info;
    }
    else if (module == PACKAGE_STREAM) {
        core_state *state = fake_state();
        fake_streams()[OUTPUT_STDOUT] = call(state, "stdout");
        fake_streams()[OUTPUT_STDERR] = call(state, "stderr");
    }
    return fake_thing();
}

void *
PyModule_GetState(PyObject *module)
{
    return module; /* the module is its state, here */
}

bool
fake_print(output_kind kind, const char *text)
{
    PyObject *stream = fake_streams()[kind];
    PyObject *data = PyBytes_FromStringAndSize(text, (Py_ssize_t)strlen(text));
    PyObject *done = NULL;
    for (PyMethodDef *def = Py_TYPE(stream)->tp_methods; def->ml_name != NULL; def++) {
        if (strcmp(def->ml_name, "write_bytes") == 0) {
            done = def->ml_meth(stream, data);
        }
    }
    Py_DECREF(data);
    Py_XDECREF(done);
    return done == NULL || fake_look();
}

/* atoll/_output/drain.py: one thread of main's writes at a time. */
void (*fake_writer)(output_kind kind, int64_t interp, const char *data, size_t size);

static PyObject *
output_call(const char *name, PyObject *arg)
{
    for (PyMethodDef *def = output_functions; def->ml_name != NULL; def++) {
        if (strcmp(def->ml_name, name) == 0) {
            return def->ml_meth(NULL, arg);
        }
    }
    return NULL;
}

static void
write_out(PyObject *batch)
{
    PyObject *data = PyTuple_GET_ITEM(batch, 4);
    int64_t interp = (int64_t)PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(batch, 2));
    output_kind kind = (output_kind)PyLong_AsInt(PyTuple_GET_ITEM(batch, 1));
    if (fake_writer != NULL) {
        if (PyBytes_Check(data)) {
            fake_writer(kind, interp, PyBytes_AS_STRING(data),
                        (size_t)PyBytes_GET_SIZE(data));
        }
        else {
            fake_writer(kind, interp, fake_text(data), strlen(fake_text(data)));
        }
    }
    if (fake_look()) {
        PyErr_Clear();
    }
}

PyObject *
PyObject_CallFunction(PyObject *Py_UNUSED(callable), const char *format, ...)
{
    /* Guarded by main's GIL: a lock that is fair, as CPython's own are. */
    static fake_thread_state *writer;
    static uint64_t arrived, served;
    if (strcmp(format, "KO") != 0) {
        return fake_thing(); /* no function of the output's */
    }
    va_list args;
    va_start(args, format);
    PyObject *batch, *upto = PyLong_FromUnsignedLong(va_arg(args, unsigned long long));
    va_end(args);
    if (writer == fake_thread_here()) {
        Py_DECREF(upto);
        return fake_thing();
    }
    for (uint64_t mine = arrived++; mine != served;) {
        fake_sleep(POLL_NS);
    }
    writer = fake_thread_here();
    while ((batch = output_call("_peek_output", upto)) != Py_None) {
        write_out(batch);
        PyObject *done = output_call("_drop_output", PyTuple_GET_ITEM(batch, 0));
        Py_XDECREF(done);
        Py_DECREF(batch);
    }
    writer = NULL;
    served++;
    Py_DECREF(upto);
    return fake_thing();
}

/* -------------------------------------------------------------------- messages */

typedef enum box_kind { BOX_SETUP, BOX_CALL, BOX_TEXT } box_kind;

typedef struct box {
    box_kind kind;
    fake_code code;
    void *arg;
    char text[];
} box;

static uint32_t messages; /* atomic */

static void
drop_box(atoll_msg *msg)
{
    free(msg->u.heap.ptr);
    at_sub_rlx(&messages, 1); /* a count, read when all is quiet */
}

static atoll_msg
box_message(box_kind kind, fake_code code, void *arg, const char *text)
{
    box *b = malloc(sizeof(*b) + strlen(text) + 1);
    *b = (box){.kind = kind, .code = code, .arg = arg};
    strcpy(b->text, text);
    at_add_rlx(&messages, 1); /* a count, read when all is quiet */
    return (atoll_msg){.drop = drop_box, .group = -1, .u.heap.ptr = b};
}

unsigned
fake_messages(void)
{
    return at_load_rlx(&messages); /* whoever asks has waited for the others */
}

atoll_msg
fake_request(fake_code code, void *arg)
{
    return box_message(BOX_CALL, code, arg, "");
}

const char *
fake_reply(const atoll_msg *reply)
{
    return reply->drop == NULL ? "" : ((box *)reply->u.heap.ptr)->text;
}

int
xfer_encode(core_state *Py_UNUSED(state), PyObject *obj, atoll_msg *msg)
{
    *msg = box_message(BOX_TEXT, NULL, NULL, fake_text(obj));
    if (fake_look()) {
        atoll_msg_drop(msg);
        return -1;
    }
    return 0;
}

int
xfer_encode_error(core_state *state, PyObject *info, PyObject *Py_UNUSED(exc),
                  atoll_msg *msg)
{
    return xfer_encode(state, PyTuple_GET_ITEM(info, 4), msg);
}

PyObject *
xfer_decode(core_state *state, atoll_msg *msg)
{
    box *b = msg->u.heap.ptr;
    PyObject *obj;
    switch (b->kind) {
    case BOX_SETUP:
        obj = Py_BuildValue("NNOONOO", fake_thing(), PyTuple_New(0), Py_None, Py_None,
                            PyTuple_New(0), Py_None, Py_None);
        break;
    case BOX_CALL:
        obj = Py_BuildValue("NNN", fake_function(b->code, b->arg), PyTuple_New(0),
                            PyDict_New());
        break;
    default:
        obj = PyUnicode_FromString(b->text);
        break;
    }
    atoll_msg_drop(msg);
    if (state != NULL && fake_look()) {
        Py_CLEAR(obj);
    }
    return obj;
}

atoll_err
xfer_clone(const atoll_msg *msg, atoll_msg *out)
{
    const box *b = msg->u.heap.ptr;
    *out = box_message(b->kind, b->code, b->arg, b->text);
    return ATOLL_OK;
}

uint64_t
xfer_process_token(void)
{
    return 1;
}

home_plan
fake_plan(const char *kind, bool isolated)
{
    return (home_plan){.setup = box_message(BOX_SETUP, NULL, NULL, ""),
                       .key = core_copy_text(kind),
                       .key_size = strlen(kind),
                       .isolated = isolated};
}

/* ------------------------------------------------------------------- isolate and
 * others */

/* Its fields that the fake uses: the lock and what it guards. */
isolate *
isolate_boot(core_state *state, bool *failed)
{
    *failed = false;
    isolate *iso = calloc(1, sizeof(*iso));
    iso->id = state->interp_id;
    state->isolate->isolate = iso;
    return iso;
}

void
fake_make_endless(void)
{
    fake_state()->isolate->endless = true;
}

bool
isolate_is_endless(const core_state *state)
{
    return state->isolate->endless;
}

static void
isolate_set_closing(isolate *iso, bool closing)
{
    atoll_lock_acquire(&iso->lock);
    iso->closing = closing;
    atoll_lock_release(&iso->lock);
}

bool
isolate_close(isolate *iso, int64_t Py_UNUSED(deadline))
{
    isolate_set_closing(iso, true);
    return true;
}

void
isolate_reopen(isolate *iso)
{
    isolate_set_closing(iso, false);
}

void
isolate_abandon(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    iso->abandoned = true;
    atoll_lock_release(&iso->lock);
}

bool
isolate_silence(isolate *Py_UNUSED(iso))
{
    return true;
}

void
isolate_end(isolate *iso)
{
    free(iso);
}

void
threads_refresh(isolate *Py_UNUSED(iso))
{
}

int
datetime_block(void)
{
    return 0;
}

const char *
tracing_forbids(bool *beside_main)
{
    *beside_main = false;
    return NULL;
}

void
arena_release_all(int64_t Py_UNUSED(owner))
{
}

/* Surroundings: nothing follows. */
int
follow_take(core_state *Py_UNUSED(state), uint32_t Py_UNUSED(deaf), follow_record **out)
{
    *out = NULL;
    return 0;
}

follow_record *
follow_ref(follow_record *record)
{
    return record;
}

void
follow_unref(follow_record *Py_UNUSED(record))
{
}

int
follow_boot(core_state *Py_UNUSED(state), uint32_t Py_UNUSED(deaf),
            PyObject *Py_UNUSED(levels))
{
    return 0;
}

void
follow_apply(core_state *Py_UNUSED(state), follow_record *Py_UNUSED(record))
{
}

void
frozen_unpin_all(int64_t Py_UNUSED(id))
{
}

void
stacks_here(stacks *out)
{
    out->states = 1;
}

void
stacks_free(stacks *Py_UNUSED(s))
{
}

PyObject *
frames_asyncgen_hook(unsigned long Py_UNUSED(ident))
{
    return NULL; /* no event loop runs */
}

int
place_mend_threads(PyObject *Py_UNUSED(thread))
{
    return 0;
}

atoll_err
plan_clone(const home_plan *plan, home_plan *copy)
{
    *copy = *plan;
    copy->key = core_copy_text(plan->key);
    return xfer_clone(&plan->setup, &copy->setup);
}

void
plan_drop(home_plan *plan)
{
    atoll_msg_drop(&plan->setup);
    atoll_free(plan->key);
}

int
home_add_type(core_state *Py_UNUSED(state))
{
    return 0;
}

void
home_start_handles(void)
{
}

PyMethodDef home_functions[] = {{NULL, NULL, 0, NULL}};

/* --------------------------------------------------------- the module, as
 * module/module.c */

static const core_room *const rooms[] = {&wait_room, &output_room, &home_room};

static bool
wants_all(void)
{
    return false;
}

static void
notify(void)
{
}

static const waits_watcher watcher = {wants_all, notify};

void
fake_module_begin(core_state *state, int64_t id, bool is_main)
{
    state->module = (PyObject *)state; /* see PyModule_GetState */
    state->interp_id = id;
    state->is_main = is_main;
    state->isolate = calloc(1, sizeof(*state->isolate));
    if (is_main) {
        waits_set_watcher(&watcher);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        void *data = calloc(1, rooms[i]->size);
        *(void **)(void *)((char *)state + rooms[i]->data) = data;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->begin(state) < 0) {
            fake_fatal("a room does not begin");
        }
    }
}

void
fake_module_end(core_state *state)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->clear != NULL) {
            rooms[i]->clear(state);
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        rooms[i]->end(state);
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        free(*(void **)(void *)((char *)state + rooms[i]->data));
    }
    free(state->isolate);
}
