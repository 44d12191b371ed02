/* What the coroutines of atoll/_aio.py begin with: trying without waiting, and how
 * methods of the types lead to them. See async/async.h. */
#include "async/operation.h"
#include "async/select.h"

chanobj *
op_end_of(core_state *state, PyObject *obj, bool send)
{
    PyTypeObject *type = send ? state->chan->send_type : state->chan->recv_type;
    if (Py_IS_TYPE(obj, state->chan->queue_type) || Py_IS_TYPE(obj, type)) {
        return (chanobj *)obj;
    }
    PyErr_Format(PyExc_TypeError, "expected a Queue or a %s, not %T",
                 send ? "SendChannel" : "RecvChannel", obj);
    return NULL;
}

bool
op_takes(const char *function, Py_ssize_t nargs, Py_ssize_t count)
{
    if (nargs == count) {
        return true;
    }
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, not %zd", function, count,
                 nargs);
    return false;
}

/* -------------------------------------------------------- without waiting */

PyDoc_STRVAR(receive_now_doc,
"_receive_now(end, default, /)\n--\n\n"
"What a Queue or RecvChannel has, or `default` if one would have to wait.");

static PyObject *
receive_now(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    core_state *state = PyModule_GetState(module);
    atoll_msg msg;
    atoll_err err;
    chanobj *end;
    if (!op_takes("_receive_now", nargs, 2) ||
        (end = op_end_of(state, args[0], false)) == NULL ||
        chanobj_recv(end, &msg, ATOLL_NOW, &err) < 0) {
        return NULL;
    }
    switch (err) {
    case ATOLL_OK:
        return chanobj_open(end, &msg);
    case ATOLL_ERR_AGAIN:
        return Py_NewRef(args[1]);
    default:
        return chanobj_raise(end, err);
    }
}

PyDoc_STRVAR(send_now_doc,
"_send_now(end, obj, unbounditems, /)\n--\n\n"
"Send without waiting: None. If one would have to wait, an Operation for\n"
"CompletionQueue.start: `obj` is encoded once.");

static PyObject *
send_now(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    core_state *state = PyModule_GetState(module);
    chanobj *end;
    int orphan;
    if (!op_takes("_send_now", nargs, 3) ||
        (end = op_end_of(state, args[0], true)) == NULL ||
        chanobj_parse_orphan(args[2], &orphan) < 0) {
        return NULL;
    }
    atoll_msg msg;
    atoll_err err;
    if (xfer_encode(state, args[1], &msg) < 0) {
        return NULL;
    }
    chanobj_set_orphan(end, &msg, orphan);
    if (chanobj_send(end, &msg, ATOLL_NOW, &err) < 0) {
        atoll_msg_drop(&msg);
        return NULL;
    }
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    opobj *o = NULL;
    if (err == ATOLL_ERR_AGAIN) {
        o = op_new(state, OP_SEND, args[0], NULL);
    }
    if (o != NULL) {
        o->op->msg = msg;
        return (PyObject *)o;
    }
    atoll_msg_drop(&msg);
    if (err == ATOLL_ERR_AGAIN) {
        return NULL;
    }
    return chanobj_raise(end, err);
}

PyDoc_STRVAR(select_now_doc,
"_select_now(cases, priority, /)\n--\n\n"
"What select(*cases) returns without waiting; else an Operation for\n"
"CompletionQueue.start. `cases` is a tuple.");

static PyObject *
select_now(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *cases, *result = NULL;
    int in_order;
    if (!PyArg_ParseTuple(args, "O!p:_select_now", &PyTuple_Type, &cases, &in_order)) {
        return NULL;
    }
    selection *s = selection_new(state, PySequence_Fast_ITEMS(cases),
                                 PyTuple_GET_SIZE(cases), in_order);
    if (s == NULL) {
        return NULL;
    }
    uint32_t index;
    atoll_err err;
    if (selection_try(s, &index, &err) == ATOLL_OK) {
        selection_settle(s, index, err);
        result = selection_result(s, index, err);
    }
    else {
        opobj *o = op_new(state, OP_SELECT, NULL, NULL);
        if (o != NULL) {
            o->selection = s;
            return (PyObject *)o;
        }
        selection_drop_unsent(s);
    }
    selection_free(s);
    return result;
}

PyMethodDef cq_functions[] = {
    {"_select_now", select_now, METH_VARARGS, select_now_doc},
    {"_receive_now", (PyCFunction)(void *)receive_now, METH_FASTCALL, receive_now_doc},
    {"_send_now", (PyCFunction)(void *)send_now, METH_FASTCALL, send_now_doc},
    {NULL, NULL, 0, NULL},
};
