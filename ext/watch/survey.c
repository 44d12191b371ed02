/* What dump() shows, as Python objects: atoll._core._survey(). All that takes locks
 * is copied first; objects are made when none is held. */
#include <stdio.h>
#include <string.h>

#include "chan/chan.h"
#include "cpython/runtime.h"
#include "pool/pool.h"
#include "wait/visit.h"
#include "watch/watch.h"

/* A list that grows; `failed` once, and from then on nothing is added. */
typedef struct rows {
    char *data;
    size_t count, room, size;
    bool failed;
} rows;

static void *
add_row(rows *r)
{
    if (r->count == r->room && !r->failed) {
        size_t room = 2 * r->room + 16;
        char *data = atoll_realloc(r->data, room * r->size);
        r->failed = data == NULL;
        if (data != NULL) {
            r->data = data;
            r->room = room;
        }
    }
    if (r->failed) {
        return NULL;
    }
    void *row = r->data + r->count++ * r->size;
    memset(row, 0, r->size);
    return row;
}

#define ROW(rows, type, i) ((type *)(void *)((rows)->data) + (i))

/* --------------------------------------------------------- interpreters, waits */

typedef struct party_row {
    party *party; /* kept by visit_begin if `kept` */
    bool kept, visited, is_main;
    int64_t id;
    char name[80];
    const char *state;
    atoll_err err;
    stacks stacks;
} party_row;

typedef struct wait_row {
    int64_t id, since, deadline;
    unsigned long ident;
    char what[240];
} wait_row;

typedef struct hold_row {
    int64_t id;
    uint64_t chan;
    int side;
} hold_row;

typedef struct survey {
    rows parties, waits, holds, pools, workers;
    int64_t now;
} survey;

static const char *const state_names[] = {"starting", "idle",   "running",
                                          "closing",  "closed", "closed"};

static void
describe_home(party_row *row, home *h)
{
    atoll_lock_acquire(&h->lock);
    row->state = h->spare ? "spare" : state_names[h->state];
    snprintf(row->name, sizeof(row->name), "%s", h->name);
    atoll_lock_release(&h->lock);
}

static void
describe_wait(wait_row *row, const wait_record *r)
{
    size_t used = 0;
    snprintf(row->what, sizeof(row->what), "something of atoll's");
    for (size_t i = 0; i < r->count && used + 1 < sizeof(row->what); i++) {
        char what[160] = "";
        r->cases[i].type->describe(r->cases[i].object, what, sizeof(what));
        int n = snprintf(row->what + used, sizeof(row->what) - used,
                         i == 0 ? "%s" : " or %s", what);
        used += n > 0 ? (size_t)n : 0;
    }
}

static void
look_at_party(survey *s, party *p, bool keep)
{
    party_row *row = add_row(&s->parties);
    if (row == NULL) {
        return;
    }
    row->party = p;
    row->id = p->id;
    row->is_main = p->is_main;
    row->state = p->closing ? "closing" : "";
    if (p->host != NULL) {
        describe_home(row, home_of_host(p->host));
    }
    for (const wait_record *r = p->records; r != NULL; r = r->next) {
        wait_row *w = add_row(&s->waits);
        if (w != NULL) {
            w->id = p->id;
            w->since = r->since;
            w->deadline = r->deadline;
            w->ident = r->ident;
            describe_wait(w, r);
        }
    }
    for (const wait_hold *h = p->holds; h != NULL; h = h->next) {
        bool shown = h->side < WAIT_SIDE_OTHER && h->side != HANDLE_NONE;
        hold_row *held = shown ? add_row(&s->holds) : NULL;
        if (held != NULL) {
            *held = (hold_row){p->id, atoll_chan_id(h->object), h->side};
        }
    }
    row->kept = keep && visit_begin(p);
}

/* The GIL of one that computes is to be had in 5 ms, with others in line a little
 * later. All together do not take longer than BUDGET, even if none lets us in. */
#define PATIENCE INT64_C(200000000)
#define BUDGET INT64_C(2000000000)

static void
visit_all(core_state *state, survey *s)
{
    int64_t end = atoll_now() + BUDGET;
    for (size_t i = 0; i < s->parties.count; i++) {
        party_row *row = ROW(&s->parties, party_row, i);
        row->stacks.texts = true;
        if (row->party == state->wait->party) {
            stacks_here(&row->stacks);
            row->err = row->stacks.failed ? ATOLL_ERR_NOMEM : ATOLL_OK;
        }
        else if (row->kept) {
            int64_t left = end - atoll_now();
            Py_BEGIN_ALLOW_THREADS
            row->err = visit_stacks(row->party, &row->stacks,
                                    left < PATIENCE / 10 ? PATIENCE / 10
                                    : left < PATIENCE    ? left
                                                         : PATIENCE);
            Py_END_ALLOW_THREADS
        }
        row->visited = row->party == state->wait->party || row->kept;
        if (row->kept) {
            visit_end(row->party);
        }
        row->party = NULL;
    }
}

/* -------------------------------------------------------------------- pools */

typedef struct pool_row {
    char name[80];
    size_t pending;
    uint32_t max_workers, live, strays;
    bool closed, fixed;
    size_t first_worker, workers;
} pool_row;

typedef struct worker_row {
    int64_t id, since; /* -1: nobody; 0: it runs nothing */
    uint64_t tasks;
    bool starting;
} worker_row;

static void
look_at_pool(pool *p, void *arg)
{
    survey *s = arg;
    pool_row *row = add_row(&s->pools);
    if (row == NULL) {
        return;
    }
    snprintf(row->name, sizeof(row->name), "%s", p->name);
    row->pending = p->pending;
    row->max_workers = p->max_workers;
    row->live = p->live;
    row->strays = p->strays + p->remain;
    row->closed = p->closed;
    row->fixed = p->fixed;
    row->first_worker = s->workers.count;
    for (uint32_t i = 0; i < p->max_workers; i++) {
        const worker *w = &p->workers[i];
        worker_row *one = w->home == NULL && !w->starting ? NULL : add_row(&s->workers);
        if (one != NULL) {
            one->id = w->home == NULL ? -1 : w->home->id;
            one->since = w->task == NULL ? 0 : w->since;
            one->tasks = w->tasks;
            one->starting = w->starting;
            row->workers++;
        }
    }
}

/* ------------------------------------------------------------------- objects */

static PyObject *
survey_text_of(const char *utf8)
{
    return PyUnicode_DecodeUTF8(utf8, (Py_ssize_t)strlen(utf8), "replace");
}

/* Append `item` (stolen) to `list`; false with an exception. */
static bool
survey_append(PyObject *list, PyObject *item)
{
    bool good = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return good;
}

static PyObject *
threads_object(const party_row *row)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < row->stacks.count; i++) {
        const thread_stack *t = &row->stacks.threads[i];
        PyObject *item =
            Py_BuildValue("kNN", t->ident, survey_text_of(t->name),
                          survey_text_of(t->frames == NULL ? "" : t->frames));
        if (!survey_append(list, item)) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static const char *
reason_of(const party_row *row)
{
    return !row->visited                   ? "it is closing: no stack"
           : row->err == ATOLL_OK          ? NULL
           : row->err == ATOLL_ERR_TIMEOUT ? "holds its GIL: no stack"
                                           : "no memory for its stacks";
}

static PyObject *
party_object(const survey *s, size_t i)
{
    const party_row *row = ROW(&s->parties, party_row, i);
    return Py_BuildValue("LONsNz", (long long)row->id,
                         row->is_main ? Py_True : Py_False, survey_text_of(row->name),
                         row->state, threads_object(row), reason_of(row));
}

static double
survey_seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

static PyObject *
wait_object(const survey *s, size_t i)
{
    const wait_row *row = ROW(&s->waits, wait_row, i);
    PyObject *left = row->deadline == ATOLL_FOREVER
                         ? Py_NewRef(Py_None)
                         : PyFloat_FromDouble(survey_seconds(row->deadline - s->now));
    return Py_BuildValue("LkdNN", (long long)row->id, row->ident,
                         survey_seconds(s->now - row->since), left,
                         survey_text_of(row->what));
}

static PyObject *
hold_object(const survey *s, size_t i)
{
    const hold_row *row = ROW(&s->holds, hold_row, i);
    return Py_BuildValue("LKs", (long long)row->id, (unsigned long long)row->chan,
                         row->side == HANDLE_QUEUE  ? "queue"
                         : row->side == HANDLE_SEND ? "send"
                                                    : "recv");
}

static PyObject *
pool_object(const survey *s, size_t i)
{
    const pool_row *row = ROW(&s->pools, pool_row, i);
    PyObject *workers = PyList_New(0);
    for (size_t k = 0; workers != NULL && k < row->workers; k++) {
        const worker_row *w = ROW(&s->workers, worker_row, row->first_worker + k);
        PyObject *runs = w->since == 0
                             ? Py_NewRef(Py_None)
                             : PyFloat_FromDouble(survey_seconds(s->now - w->since));
        if (!survey_append(workers, Py_BuildValue("LNK", (long long)w->id, runs,
                                                  (unsigned long long)w->tasks))) {
            Py_CLEAR(workers);
        }
    }
    return Py_BuildValue("NnIIOON", survey_text_of(row->name), (Py_ssize_t)row->pending,
                         row->max_workers, row->strays,
                         row->closed ? Py_True : Py_False,
                         row->fixed ? Py_True : Py_False, workers);
}

/* (id, capacity or None, length, closed, [waiting to receive, to send], [handles of
 * the two ends], references). */
static PyObject *
chan_object(atoll_chan *chan)
{
    atoll_chan_facts facts;
    atoll_chan_look(chan, &facts);
    size_t capacity = atoll_chan_capacity(chan);
    PyObject *room =
        capacity == ATOLL_UNBOUNDED ? Py_NewRef(Py_None) : PyLong_FromSize_t(capacity);
    return Py_BuildValue(
        "KNnO(nn)(II)I", (unsigned long long)atoll_chan_id(chan), room,
        (Py_ssize_t)facts.len, facts.closed ? Py_True : Py_False,
        (Py_ssize_t)facts.waiting[ATOLL_END_RECV],
        (Py_ssize_t)facts.waiting[ATOLL_END_SEND], (unsigned)facts.ends[ATOLL_END_RECV],
        (unsigned)facts.ends[ATOLL_END_SEND], (unsigned)facts.refs - 1);
}

static PyObject *
make_chan(core_state *Py_UNUSED(state), atoll_chan *chan)
{
    return chan_object(chan);
}

static PyObject *
list_of(const survey *s, const rows *r, PyObject *(*make)(const survey *, size_t))
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < r->count; i++) {
        if (!survey_append(list, make(s, i))) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static void
survey_free(survey *s)
{
    for (size_t i = 0; i < s->parties.count; i++) {
        stacks_free(&ROW(&s->parties, party_row, i)->stacks);
    }
    atoll_free(s->parties.data);
    atoll_free(s->waits.data);
    atoll_free(s->holds.data);
    atoll_free(s->pools.data);
    atoll_free(s->workers.data);
}

PyDoc_STRVAR(memory_doc,
"_memory(id, /)\n--\n\n"
"Bytes (int) that CPython's allocator of small objects has taken for interpreter\n"
"`id`.");

static PyObject *
core_memory(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long long id = PyLong_AsLongLong(arg);
    return id == -1 && PyErr_Occurred() ? NULL : PyLong_FromSize_t(arena_bytes(id));
}

PyDoc_STRVAR(survey_doc,
"_survey(stacks, /)\n--\n\n"
"What dump() shows: lists of interpreters, waits, handles of queues and channels,\n"
"pools, queues, channels. With `stacks` it looks into other interpreters, which\n"
"takes up to 0.2 s for one that does not let go of its GIL.");

static PyObject *
core_survey(PyObject *module, PyObject *arg)
{
    core_state *state = PyModule_GetState(module);
    int with_stacks = PyObject_IsTrue(arg);
    if (with_stacks < 0) {
        return NULL;
    }
    survey s = {.parties.size = sizeof(party_row),
                .waits.size = sizeof(wait_row),
                .holds.size = sizeof(hold_row),
                .pools.size = sizeof(pool_row),
                .workers.size = sizeof(worker_row)};
    for (party *p = waits_lock_all(); p != NULL; p = p->next) {
        look_at_party(&s, p, with_stacks && p != state->wait->party);
    }
    s.now = atoll_now();
    waits_unlock_all();
    pools_each(look_at_pool, &s);
    if (with_stacks) {
        visit_all(state, &s);
    }
    if (s.parties.failed || s.waits.failed || s.holds.failed || s.pools.failed ||
        s.workers.failed) {
        survey_free(&s);
        return PyErr_NoMemory();
    }
    PyObject *result = Py_BuildValue(
        "NNNNNN", list_of(&s, &s.parties, party_object),
        list_of(&s, &s.waits, wait_object), list_of(&s, &s.holds, hold_object),
        list_of(&s, &s.pools, pool_object), chanobj_list(state, KIND_QUEUE, make_chan),
        chanobj_list(state, KIND_CHANNEL, make_chan));
    survey_free(&s);
    return result;
}

PyDoc_STRVAR(detect_doc,
"_detect_deadlocks(on, /)\n--\n\nSee atoll.detect_deadlocks. None only asks.");

static PyObject *
core_detect(PyObject *Py_UNUSED(module), PyObject *arg)
{
    if (arg == Py_None) {
        return PyBool_FromLong(watch_all());
    }
    int on = PyObject_IsTrue(arg);
    return on < 0 ? NULL : PyBool_FromLong(watch_set_all(on != 0));
}

PyDoc_STRVAR(hurry_doc,
"_hurry_watch(seconds, /)\n--\n\n"
"For tests: look for deadlocks all the time, with such pauses; 0: as usual.");

static PyObject *
core_hurry(PyObject *Py_UNUSED(module), PyObject *arg)
{
    double seconds = PyFloat_AsDouble(arg);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    watch_hurry((int64_t)(seconds * 1e9));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(harmless_doc,
"_set_dump_handler(function, /)\n--\n\n"
"That signals call it does not mean that they could wake somebody up.");

static PyObject *
core_set_dump_handler(PyObject *Py_UNUSED(module), PyObject *arg)
{
    stacks_set_harmless(arg);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(show_doc,
"_show(id, /)\n--\n\n"
"See atoll.show_to_tools. False: there is no such interpreter; None: it cannot be\n"
"done in this version of CPython.");

static PyObject *
core_show(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long long id = PyLong_AsLongLong(arg);
    if (id == -1 && PyErr_Occurred()) {
        return NULL;
    }
    int done = runtime_show(id);
    return done < 0 ? Py_NewRef(Py_None) : PyBool_FromLong(done);
}

PyMethodDef survey_functions[] = {
    {"_survey", core_survey, METH_O, survey_doc},
    {"_memory", core_memory, METH_O, memory_doc},
    {"_detect_deadlocks", core_detect, METH_O, detect_doc},
    {"_hurry_watch", core_hurry, METH_O, hurry_doc},
    {"_set_dump_handler", core_set_dump_handler, METH_O, harmless_doc},
    {"_show", core_show, METH_O, show_doc},
    {NULL, NULL, 0, NULL},
};
