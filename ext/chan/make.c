/* Making and finding channels: create_channel, list_channels, after, ticker. */
#include <math.h>

#include "chan/chan.h"

/* ------------------------------------------------------------- channels */

static PyObject *
find_end(PyObject *module, PyObject *args, xfer_handle_kind kind)
{
    core_state *state = PyModule_GetState(module);
    unsigned long long id;
    if (xfer_parse_find(state, args, "channel", "ChannelNotFoundError", &id) < 0) {
        return NULL;
    }
    return chanobj_find(state, kind, KIND_CHANNEL, id, "ChannelNotFoundError");
}

static PyObject *
core_find_send(PyObject *module, PyObject *args)
{
    return find_end(module, args, HANDLE_SEND);
}

static PyObject *
core_find_recv(PyObject *module, PyObject *args)
{
    return find_end(module, args, HANDLE_RECV);
}

/* What this interpreter has retired stays retired: being listed is no use. */
static PyObject *
pair_from_chan(core_state *state, atoll_chan *chan)
{
    PyObject *recv = chanobj_peek(state, HANDLE_RECV, chan);
    if (recv == NULL) {
        return NULL;
    }
    PyObject *send = chanobj_peek(state, HANDLE_SEND, chan);
    if (send == NULL) {
        Py_DECREF(recv);
        return NULL;
    }
    return Py_BuildValue("NN", recv, send);
}

PyDoc_STRVAR(create_channel_doc,
"create_channel(capacity=0, *, unbounditems=None)\n--\n\n"
"Make a channel for all interpreters and threads of this process.\n\n"
"Args:\n"
"  capacity (int): objects it may hold. 0 is a rendezvous: send() returns when\n"
"    a receiver has the object.\n"
"  unbounditems: the default of SendChannel.send(unbounditems=).\n"
"Returns:\n"
"  (RecvChannel, SendChannel)\n"
"Raises:\n"
"  TypeError, ValueError: the capacity is not an int, or negative.");

static PyObject *
core_create_channel(PyObject *module, PyObject *args, PyObject *kwargs)
{
    core_state *state = PyModule_GetState(module);
    static char *keywords[] = {"capacity", "unbounditems", NULL};
    PyObject *capacity_obj = NULL, *unbound = NULL;
    int64_t capacity = 0;
    int orphan;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:create_channel", keywords,
                                     &capacity_obj, &unbound)) {
        return NULL;
    }
    if (capacity_obj != NULL && args_int("capacity", capacity_obj, &capacity) < 0) {
        return NULL;
    }
    if (capacity < 0) {
        return PyErr_Format(PyExc_ValueError, "capacity must be 0 or more, not %lld",
                            (long long)capacity);
    }
    if (chanobj_parse_orphan(unbound, &orphan) < 0) {
        return NULL;
    }
    atoll_chan *chan;
    atoll_err err = atoll_chan_new((size_t)capacity, KIND_CHANNEL, &chan);
    if (err != ATOLL_OK) {
        return raise_err(state, err, "channel");
    }
    atoll_chan_user(chan)[CHANNEL_ORPHAN] = orphan >= 0 ? orphan : 0;
    PyObject *pair = pair_from_chan(state, chan);
    atoll_chan_unref(chan);
    return pair;
}

PyDoc_STRVAR(list_channels_doc,
"list_channels()\n--\n\n"
"All open channels of this process, oldest first, as (recv, send) pairs. Those\n"
"of after() and ticker(), which have no sending end, are not among them.");

/* A channel that is closed, or that has lost an end, cannot be used again. */
static PyObject *
core_list_channels(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    PyObject *all = chanobj_list(state, KIND_CHANNEL, pair_from_chan);
    if (all == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = PyList_GET_SIZE(all) - 1; i >= 0; i--) {
        chanobj *recv = (chanobj *)PyTuple_GET_ITEM(PyList_GET_ITEM(all, i), 0);
        if (atoll_chan_is_closed(recv->chan) && PySequence_DelItem(all, i) < 0) {
            Py_DECREF(all);
            return NULL;
        }
    }
    return all;
}

/* ------------------------------------------------------------------- timers */

/* On the core's timer thread. */
static void
fill_with_time(int64_t now, atoll_msg *msg)
{
    xfer_encode_float((double)now * 1e-9, msg);
}

/* Seconds as nanoseconds, rounded up; INT64_MAX for what is longer than that. */
static int
make_parse_seconds(const char *function, PyObject *seconds, bool may_be_zero,
                   int64_t *ns)
{
    double value;
    if (args_double("seconds", "a number", seconds, &value) < 0) {
        return -1;
    }
    if (isnan(value) || value < 0 || (value == 0 && !may_be_zero)) {
        PyErr_Format(PyExc_ValueError, "%s() takes a %s number of seconds, not %R",
                     function, may_be_zero ? "non-negative" : "positive", seconds);
        return -1;
    }
    value = ceil(value * 1e9);
    *ns = value >= (double)INT64_MAX ? INT64_MAX : (int64_t)value;
    return 0;
}

static PyObject *
new_timer(PyObject *module, int64_t delay, int64_t period)
{
    core_state *state = PyModule_GetState(module);
    int64_t now = atoll_now();
    atoll_chan *chan;
    atoll_err err =
        atoll_chan_timer(delay > INT64_MAX - now ? ATOLL_FOREVER : now + delay, period,
                         KIND_TIMER, fill_with_time, &chan);
    if (err == ATOLL_ERR_CLOSED) {
        PyErr_SetString(PyExc_RuntimeError,
                        "there are no timers: the process is ending");
        return NULL;
    }
    if (err != ATOLL_OK) {
        return raise_err(state, err, "timer");
    }
    PyObject *recv = chanobj_get(state, HANDLE_RECV, chan);
    if (recv == NULL) {
        atoll_chan_close(chan, true);
    }
    atoll_chan_unref(chan);
    return recv;
}

PyDoc_STRVAR(after_doc,
"after(seconds, /)\n--\n\n"
"A channel that receives one float after that time, time.monotonic() then, and is\n"
"closed. Closing it, or dropping it everywhere, ends the timer. Does not block.\n\n"
"Args:\n"
"  seconds (float): 0 is at once, math.inf never.\n"
"Returns:\n"
"  RecvChannel: can be sent on, as any other.\n"
"Raises:\n"
"  TypeError, ValueError: not a non-negative number.\n"
"  RuntimeError: the process is ending.");

static PyObject *
core_after(PyObject *module, PyObject *seconds)
{
    int64_t delay;
    if (make_parse_seconds("after", seconds, true, &delay) < 0) {
        return NULL;
    }
    return new_timer(module, delay, 0);
}

PyDoc_STRVAR(ticker_doc,
"ticker(seconds, /)\n--\n\n"
"A channel that receives a float, time.monotonic() then, each time that so many\n"
"seconds have passed. It holds one: a tick that comes before the last one has\n"
"been received is dropped. Ticks are multiples of `seconds` from now, so they do\n"
"not drift. It goes on until the channel is closed, or no interpreter has it any\n"
"more. Does not block.\n\n"
"Args:\n"
"  seconds (float): more than 0; less than 10 microseconds count as that.\n"
"Returns:\n"
"  RecvChannel: can be sent on, as any other.\n"
"Raises:\n"
"  TypeError, ValueError: not a positive number.\n"
"  RuntimeError: the process is ending.");

static PyObject *
core_ticker(PyObject *module, PyObject *seconds)
{
    int64_t period;
    if (make_parse_seconds("ticker", seconds, false, &period) < 0) {
        return NULL;
    }
    return new_timer(module, period, period);
}

PyMethodDef channel_functions[] = {
    {"create_channel", (PyCFunction)(void *)core_create_channel,
     METH_VARARGS | METH_KEYWORDS, create_channel_doc},
    {"after", core_after, METH_O, after_doc},
    {"ticker", core_ticker, METH_O, ticker_doc},
    {"list_channels", core_list_channels, METH_NOARGS, list_channels_doc},
    {"_find_send", core_find_send, METH_VARARGS, NULL},
    {"_find_recv", core_find_recv, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
