/* atoll._core.Home: what an atoll.Interpreter holds on to. The class that users
 * see is Python (atoll/interpreter.py); this is the part that waits. */
#include "home/home.h"
#include "output/output.h"
#include "wire/kind.h"

#include <marshal.h>

/* How long a job gets to obey the interrupt that follows a Ctrl-C at its
 * caller. What does not obey in that time goes on without it. */
#define OBEY_NS INT64_C(50000000)

typedef struct homeobj {
    PyObject_HEAD
    core_state *state;
    home *home; /* a reference and a handle */
} homeobj;

PyObject *
home_object(core_state *state, home *h)
{
    homeobj *self = PyObject_New(homeobj, state->home->home_type);
    if (self != NULL) {
        self->state = state;
        self->home = h;
        home_ref(h);
        home_handle_ref(h);
    }
    return (PyObject *)self;
}

static void
homeobj_dealloc(PyObject *obj)
{
    homeobj *self = (homeobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    home_handle_unref(self->home);
    home_unref(self->home);
    PyObject_Free(self);
    Py_DECREF(type);
}

PyObject *
home_raise_gone(core_state *state, const home *h)
{
    PyObject *id = PyLong_FromLongLong(h->id);
    if (id != NULL) {
        raise_error(state, "InterpreterNotFoundError", "interpreter %S has been closed",
                    id);
        Py_DECREF(id);
    }
    return NULL;
}

/* ------------------------------------------------------- as atoll.Interpreter */

/* Make the Python object for a home: a new reference. There is one for each id and
 * interpreter. */
static PyObject *
interpreter_from_home(core_state *state, void *h)
{
    PyObject *cls = state->home->interpreter_class;
    if (cls == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "atoll is not fully imported");
        return NULL;
    }
    PyObject *own = home_object(state, h);
    if (own == NULL) {
        return NULL;
    }
    PyObject *interp = PyObject_CallMethod(cls, "_from_handle", "O", own);
    Py_DECREF(own);
    return interp;
}

/* Find the home behind an atoll.Interpreter (borrowed), or NULL if it has none; an
 * exception may be set. */
static home *
interpreter_home(core_state *state, PyObject *obj)
{
    PyObject *own = PyObject_GetAttrString(obj, "_handle");
    if (own == NULL) {
        return NULL;
    }
    home *h = Py_TYPE(own) == state->home->home_type ? ((homeobj *)own)->home : NULL;
    Py_DECREF(own); /* the interpreter object keeps it */
    return h;
}

/* Append an interpreter: its home, or its id if that has none. */
static int
interpreter_encode(encoder *e, PyObject *obj)
{
    home *h = interpreter_home(e->state, obj);
    if (h != NULL) {
        return enc_put_handle(e, TAG_HANDLE, HANDLE_HOME, h);
    }
    PyObject *id = PyErr_Occurred() ? NULL : PyObject_GetAttrString(obj, "id");
    int64_t value = id == NULL ? -1 : PyLong_AsLongLong(id);
    Py_XDECREF(id);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    return enc_put(e, TAG_FOREIGN, &value, sizeof(value));
}

/* Make an interpreter that has no home, of its id. */
static PyObject *
interpreter_decode(decoder *d, int Py_UNUSED(tag))
{
    int64_t id = (int64_t)dec_u64(d);
    PyObject *cls = d->state->home->interpreter_class;
    if (cls == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "atoll is not fully imported");
        return NULL;
    }
    return PyObject_CallFunction(cls, "L", (long long)id);
}

static void
home_ref_handle(void *ptr)
{
    home_ref(ptr);
    home_handle_ref(ptr);
}

static void
home_unref_handle(void *ptr)
{
    home_handle_unref(ptr);
    home_unref(ptr);
}

static const wire_kind home_kind = {
    .ref = home_ref_handle,
    .unref = home_unref_handle,
    .open = interpreter_from_home,
};

void
home_start_handles(void)
{
    wire_set_kind(HANDLE_HOME, &home_kind);
    wire_set_decoder(TAG_FOREIGN, interpreter_decode);
}

int
home_set_class(core_state *state, PyObject *cls)
{
    if (!PyType_Check(cls)) {
        PyErr_Format(PyExc_TypeError, "expected a class, not %T", cls);
        return -1;
    }
    Py_XSETREF(state->home->interpreter_class, Py_NewRef(cls));
    return wire_add_type(state, (PyTypeObject *)cls, interpreter_encode, true);
}

home *
home_of_object(core_state *state, PyObject *obj)
{
    if (Py_TYPE(obj) != state->home->home_type) {
        PyErr_Format(PyExc_TypeError, "expected a Home, not %T", obj);
        return NULL;
    }
    return ((homeobj *)obj)->home;
}

/* -------------------------------------------------------------- running jobs */

static atoll_err
homeobj_wait_done(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((job *)arg)->done, wait);
}

/* The caller has been interrupted: pass it on, and give the job a moment to
 * end, so that the interpreter can be used again at once. */
static void
homeobj_give_up(home *h, job *j)
{
    PyObject *exc = PyErr_GetRaisedException();
    Py_BEGIN_ALLOW_THREADS
    if (home_interrupt(h, j, true)) {
        atoll_wait wait = {.deadline = atoll_now() + OBEY_NS};
        atoll_err err = atoll_event_wait(&j->done, &wait);
        (void)err; /* it goes on alone */
    }
    Py_END_ALLOW_THREADS
    PyErr_SetRaisedException(exc);
}

static PyObject *
raise_running(core_state *state)
{
    return raise_error(state, "InterpreterError", "interpreter already running");
}

/* What the job has come to, as (status, value): True and the result, False and
 * the error's description. */
static PyObject *
outcome_of(core_state *state, const home *h, job *j)
{
    if (j->status == JOB_GONE) {
        return home_raise_gone(state, h);
    }
    if (j->status == JOB_LOST) {
        return PyErr_NoMemory();
    }
    if (j->status == JOB_BUSY) {
        return raise_running(state);
    }
    PyObject *value = xfer_decode(state, &j->reply);
    if (value == NULL) {
        return NULL;
    }
    if (j->status == JOB_UNSENT) {
        raise_error(state, "NotShareableError", "the result: %S", value);
        Py_DECREF(value);
        return NULL;
    }
    return Py_BuildValue("ON", j->status == JOB_RETURNED ? Py_True : Py_False, value);
}

/* Encode `request`, run it there, wait. */
static PyObject *
run_job(homeobj *self, job_op op, PyObject *request)
{
    core_state *state = self->state;
    home *h = self->home;
    atoll_msg msg;
    if (xfer_encode(state, request, &msg) < 0) {
        return NULL;
    }
    job *j = job_new(op, &msg);
    if (j == NULL) {
        atoll_msg_drop(&msg);
        return PyErr_NoMemory();
    }
    j->from_main = state->is_main;
    if (follow_take(state, h->deaf, &j->follow) < 0) {
        job_unref(j);
        return NULL;
    }
    PyObject *result = NULL;
    callers_enter(state);
    atoll_err err = home_submit(h, j);
    if (err == ATOLL_OK) {
        if (detach_wait_one(state, homeobj_wait_done, j, ATOLL_FOREVER, &h->spin,
                            &wait_home_job, h, &err) < 0) {
            homeobj_give_up(h, j);
        }
        else if (output_catch_up(state, j->printed) == 0) {
            result = outcome_of(state, h, j);
        }
    }
    else if (err == ATOLL_ERR_AGAIN) {
        raise_running(state);
    }
    else if (err == ATOLL_ERR_CLOSED) {
        home_raise_gone(state, h);
    }
    else {
        raise_err(state, err, "interpreter");
    }
    PyObject *exc = PyErr_GetRaisedException();
    callers_leave(state);
    PyErr_SetRaisedException(exc);
    job_unref(j);
    return result;
}

PyDoc_STRVAR(exec_doc,
"exec($self, source, /)\n--\n\n"
"Run source text (str) or a code object in __main__ there. Returns (True,\n"
"None) or (False, error).");

static PyObject *
homeobj_exec(PyObject *obj, PyObject *source)
{
    if (!PyCode_Check(source)) {
        return run_job((homeobj *)obj, JOB_EXEC, source);
    }
    PyObject *bytes = PyMarshal_WriteObjectToString(source, Py_MARSHAL_VERSION);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *result = run_job((homeobj *)obj, JOB_EXEC, bytes);
    Py_DECREF(bytes);
    return result;
}

PyDoc_STRVAR(call_doc,
"call($self, request, /)\n--\n\n"
"Call there: request is (function, args, kwargs). Returns (True, result) or\n"
"(False, error).");

static PyObject *
homeobj_call(PyObject *obj, PyObject *request)
{
    return run_job((homeobj *)obj, JOB_CALL, request);
}

PyDoc_STRVAR(prepare_doc,
"prepare($self, names, /)\n--\n\n"
"Bind the items of a dict in __main__ there. Returns as exec does.");

static PyObject *
homeobj_prepare(PyObject *obj, PyObject *names)
{
    return run_job((homeobj *)obj, JOB_PREPARE, names);
}

PyDoc_STRVAR(interrupt_doc,
"interrupt($self, /)\n--\n\nSee Interpreter.interrupt.");

static PyObject *
homeobj_interrupt(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    home *h = ((homeobj *)obj)->home;
    bool runs;
    Py_BEGIN_ALLOW_THREADS
    runs = home_interrupt(h, NULL, false);
    Py_END_ALLOW_THREADS
    if (!runs && has_ended(h)) {
        return home_raise_gone(((homeobj *)obj)->state, h);
    }
    return PyBool_FromLong(runs);
}

PyDoc_STRVAR(forsake_doc,
"forsake($self, /)\n--\n\n"
"Let the caller of what runs there go, with InterpreterNotFoundError: the program is\n"
"ending, and it has not obeyed an interrupt.");

static PyObject *
homeobj_forsake(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    home_forsake(((homeobj *)obj)->home);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_running_doc,
"is_running($self, /)\n--\n\nSee Interpreter.is_running.");

static PyObject *
homeobj_is_running(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    homeobj *self = (homeobj *)obj;
    switch (home_state_now(self->home)) {
    case HOME_RUNNING:
    case HOME_CLOSING:
        Py_RETURN_TRUE;
    case HOME_LINGERING:
    case HOME_ENDED:
        return home_raise_gone(self->state, self->home);
    default:
        Py_RETURN_FALSE;
    }
}

/* -------------------------------------------------------------------- close */

static PyObject *
raise_busy(core_state *state, const home *h, const char *how)
{
    PyObject *id = PyLong_FromLongLong(h->id);
    if (id != NULL) {
        raise_error(state, "InterpreterError", "interpreter %S %s", id, how);
        Py_DECREF(id);
    }
    return NULL;
}

/* Raise InterpreterError with a text that has the id and what is in the way. */
static PyObject *
raise_in_way(homeobj *self, const char *format)
{
    char *way = home_in_way(self->home);
    PyObject *id = way == NULL ? PyErr_NoMemory() : PyLong_FromLongLong(self->home->id);
    if (id != NULL) {
        raise_error(self->state, "InterpreterError", format, id, way);
        Py_DECREF(id);
    }
    atoll_free(way);
    return NULL;
}

/* The close was not over at the deadline, though it has `begun`. */
static PyObject *
raise_late_close(homeobj *self, bool begun)
{
    if (!begun) {
        return raise_busy(self->state, self->home, "was still running at the timeout");
    }
    return raise_in_way(self,
                        "interpreter %S is closing but had not ended at the timeout, "
                        "because of %s; close() again to wait longer");
}

static PyObject *
raise_left(homeobj *self)
{
    return raise_in_way(
        self, "interpreter %S has been left to itself and ends when it can: it "
              "is still used by %s; give close() a timeout to wait for that");
}

/* The close has been refused: the reply says because of what. */
static PyObject *
raise_refused(homeobj *self, job *j)
{
    PyObject *way = j->status == JOB_REFUSED ? xfer_decode(self->state, &j->reply)
                                             : PyErr_NoMemory();
    PyObject *id = way == NULL ? NULL : PyLong_FromLongLong(self->home->id);
    if (id != NULL) {
        raise_error(self->state, "InterpreterError",
                    "interpreter %S cannot be closed: it is still used by %S", id, way);
    }
    Py_XDECREF(id);
    Py_XDECREF(way);
    return NULL;
}

/* Wait for the close that home_close has begun. */
static PyObject *
finish_close(homeobj *self, job *j, int64_t deadline)
{
    home *h = self->home;
    atoll_err err;
    int rc = detach_wait_one(self->state, homeobj_wait_done, j, deadline, &h->spin,
                             &wait_home_job, h, &err);
    bool begun = home_close_over(h);
    if (rc < 0) {
        return NULL;
    }
    if (err != ATOLL_OK) {
        return raise_late_close(self, begun);
    }
    if (output_catch_up(self->state, j->printed) < 0) {
        return NULL;
    }
    if (j->status != JOB_RETURNED) {
        return raise_refused(self, j);
    }
    Py_BEGIN_ALLOW_THREADS
    home_reap();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close($self, timeout, /)\n--\n\nSee Interpreter.close.");

static PyObject *
homeobj_close(PyObject *obj, PyObject *timeout)
{
    homeobj *self = (homeobj *)obj;
    int64_t deadline;
    if (detach_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    if (self->state->interp_id == self->home->id) {
        return raise_busy(self->state, self->home,
                          "cannot be closed from within itself");
    }
    job *j;
    switch (home_close(self->home, deadline != ATOLL_FOREVER, &j)) {
    case ATOLL_OK:
        break;
    case ATOLL_ERR_AGAIN:
        return raise_busy(self->state, self->home,
                          "is running; wait for it, interrupt() it, or give close() a "
                          "timeout");
    case ATOLL_ERR_TIMEOUT:
        return raise_left(self);
    case ATOLL_ERR_CLOSED:
        return home_raise_gone(self->state, self->home);
    default:
        return PyErr_NoMemory();
    }
    PyObject *result = finish_close(self, j, deadline);
    job_unref(j);
    return result;
}

static PyObject *
homeobj_get_id(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((homeobj *)obj)->home->id);
}

static PyObject *
homeobj_get_name(PyObject *obj, void *Py_UNUSED(closure))
{
    home *h = ((homeobj *)obj)->home;
    /* A spare is given another one when it is taken. */
    atoll_lock_acquire(&h->lock);
    char *copy = core_copy_text(h->name);
    atoll_lock_release(&h->lock);
    PyObject *name = copy == NULL ? PyErr_NoMemory() : PyUnicode_FromString(copy);
    atoll_free(copy);
    return name;
}

PyDoc_STRVAR(note_doc,
"note($self, /)\n--\n\n"
"For __reduce__: the message under way, if any, keeps the interpreter.");

static PyObject *
homeobj_note(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    homeobj *self = (homeobj *)obj;
    if (xfer_note_handle(self->state, HANDLE_HOME, self->home) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef homeobj_methods[] = {
    {"exec", homeobj_exec, METH_O, exec_doc},
    {"call", homeobj_call, METH_O, call_doc},
    {"prepare", homeobj_prepare, METH_O, prepare_doc},
    {"interrupt", homeobj_interrupt, METH_NOARGS, interrupt_doc},
    {"forsake", homeobj_forsake, METH_NOARGS, forsake_doc},
    {"is_running", homeobj_is_running, METH_NOARGS, is_running_doc},
    {"close", homeobj_close, METH_O, close_doc},
    {"note", homeobj_note, METH_NOARGS, note_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef homeobj_getset[] = {
    {"id", homeobj_get_id, NULL, "The interpreter's id (int).", NULL},
    {"name", homeobj_get_name, NULL, "The interpreter's name (str).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot homeobj_slots[] = {
    {Py_tp_dealloc, homeobj_dealloc},
    {Py_tp_methods, homeobj_methods},
    {Py_tp_getset, homeobj_getset},
    {Py_tp_doc, "A counted handle of an interpreter that atoll made."},
    {0, NULL},
};

static PyType_Spec homeobj_spec = {
    .name = "atoll._core.Home",
    .basicsize = sizeof(homeobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = homeobj_slots,
};

int
home_add_type(core_state *state)
{
    state->home->home_type = core_add_type(state, &homeobj_spec);
    return state->home->home_type == NULL ? -1 : 0;
}
