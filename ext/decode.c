/* Messages to Python objects: atoms and containers. See decoder.h, wire.h. */
#include "decoder.h"

#include "adopt.h"
#include "chanobj.h"
#include "compat.h"
#include "home.h"
#include "view.h"

int
dec_memo_grow(decoder *d)
{
    bool first = d->memo == d->memo_small;
    size_t room = d->memo_room * 4;
    PyObject **more = first ? atoll_alloc(room * sizeof(*more))
                            : atoll_realloc(d->memo, room * sizeof(*more));
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (first) {
        memcpy(more, d->memo_small, sizeof(d->memo_small));
    }
    d->memo = more;
    d->memo_room = room;
    return 0;
}

void
dec_link(decoder *d)
{
    if (!d->linked && d->state != NULL) {
        d->linked = true;
        d->thread = PyThread_get_thread_ident();
        d->outer = d->state->decoders;
        d->state->decoders = d;
    }
}

static void
decoder_fini(decoder *d)
{
    if (d->linked) {
        /* As in encode.c: other threads may have come and gone meanwhile. */
        decoder **link = &d->state->decoders;
        while (*link != d) {
            link = &(*link)->outer;
        }
        *link = d->outer;
    }
    for (size_t i = 0; i < d->memo_used; i++) {
        Py_DECREF(d->memo[i]);
    }
    if (d->memo != d->memo_small) {
        atoll_free(d->memo);
    }
    for (size_t i = 0; i < d->nforms; i++) {
        Py_DECREF(d->forms[i].names);
        layout_form_fini(&d->forms[i].layout);
    }
    if (d->forms != d->forms_small) {
        atoll_free(d->forms);
    }
    for (size_t i = 0; i < d->nshapes; i++) {
        Py_DECREF(d->shapes[i].type);
        Py_XDECREF(d->shapes[i].names);
    }
    if (d->shapes != d->shapes_small) {
        atoll_free(d->shapes);
    }
}

/* ------------------------------------------------------------------- atoms */

static PyObject *
dec_str(decoder *d)
{
    uint32_t maxchar = dec_u32(d);
    Py_ssize_t length = (Py_ssize_t)dec_u64(d);
    PyObject *str = PyUnicode_New(length, maxchar);
    if (str != NULL && length > 0) {
        size_t bytes = (size_t)length * (size_t)PyUnicode_KIND(str);
        memcpy(PyUnicode_DATA(str), dec_take(d, bytes), bytes);
    }
    return str;
}

static PyObject *
dec_blob(decoder *d)
{
    handle *h = &d->handles[dec_u32(d)];
    h->kind = HANDLE_NONE; /* used up in any case */
    return adopt_take(d->state, h->ptr);
}

/* -------------------------------------------------------------- containers */

static inline bool
is_run(int tag)
{
    return tag == TAG_INTS || tag == TAG_WIDE_INTS || tag == TAG_FLOATS;
}

static inline PyObject *
number_of_run(decoder *d, int tag)
{
    if (tag == TAG_INTS) {
        return PyLong_FromLong((int32_t)dec_u32(d));
    }
    if (tag == TAG_WIDE_INTS) {
        return PyLong_FromLongLong((int64_t)dec_u64(d));
    }
    double value;
    memcpy(&value, dec_take(d, sizeof(value)), sizeof(value));
    return PyFloat_FromDouble(value);
}

/* A run of numbers into slots[0..left). Returns how many, -1 with an
 * exception, 0 if what follows is none. */
static Py_ssize_t
dec_run(decoder *d, PyObject **slots)
{
    int tag = *d->at;
    if (!is_run(tag)) {
        return 0;
    }
    d->at++;
    Py_ssize_t count = (Py_ssize_t)dec_u32(d);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = number_of_run(d, tag);
        if (item == NULL) {
            while (i > 0) {
                Py_CLEAR(slots[--i]);
            }
            return -1;
        }
        slots[i] = item;
    }
    return count;
}

/* The end of what gets its number late: it itself, or what one of its parts has
 * made of it before. Steals `obj`, which may be NULL. */
static PyObject *
numbered(decoder *d, bool memo, PyObject *obj)
{
    if (obj == NULL || !memo) {
        return obj;
    }
    PyObject *known = dec_known(d);
    if (known != NULL) {
        Py_SETREF(obj, known);
    }
    else if (dec_number(d, true, obj) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

static PyObject *
dec_tuple(decoder *d, Py_ssize_t count, bool memo)
{
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL) {
        return NULL;
    }
    PyObject **items = ((PyTupleObject *)tuple)->ob_item;
    for (Py_ssize_t i = 0; i < count;) {
        Py_ssize_t run = dec_run(d, items + i);
        if (run == 0) {
            PyObject *item = dec_item(d);
            if (item != NULL) {
                items[i] = item;
                run = 1;
            }
            else {
                run = -1;
            }
        }
        if (run < 0) {
            Py_DECREF(tuple);
            return NULL;
        }
        i += run;
    }
    return numbered(d, memo, tuple);
}

/* Its size grows with its items, so that it has no holes at any time. If code
 * of an item's has changed it meanwhile, what comes is appended. */
static PyObject *
dec_list(decoder *d, Py_ssize_t count, bool memo)
{
    PyObject *obj = PyList_New(count);
    if (obj == NULL) {
        return NULL;
    }
    PyListObject *list = (PyListObject *)obj;
    Py_SET_SIZE(list, 0);
    if (dec_number(d, memo, obj) < 0) {
        goto error;
    }
    for (Py_ssize_t i = 0; i < count;) {
        Py_ssize_t at = Py_SIZE(list), run = 0;
        if (at == i && list->allocated >= count) {
            run = dec_run(d, list->ob_item + at);
            Py_SET_SIZE(list, at + (run > 0 ? run : 0));
        }
        else if (is_run(*d->at)) {
            int tag = dec_u8(d);
            for (run = (Py_ssize_t)dec_u32(d); run > 0; run--, i++) {
                PyObject *item = number_of_run(d, tag);
                int rc = item == NULL ? -1 : PyList_Append(obj, item);
                Py_XDECREF(item);
                if (rc < 0) {
                    goto error;
                }
            }
            continue;
        }
        if (run == 0) {
            PyObject *item = dec_item(d);
            if (item == NULL) {
                goto error;
            }
            at = Py_SIZE(list);
            if (at < list->allocated) {
                list->ob_item[at] = item;
                Py_SET_SIZE(list, at + 1);
            }
            else {
                int rc = PyList_Append(obj, item);
                Py_DECREF(item);
                if (rc < 0) {
                    goto error;
                }
            }
            run = 1;
        }
        if (run < 0) {
            goto error;
        }
        i += run;
    }
    return obj;
error:
    Py_DECREF(obj);
    return NULL;
}

static int
dec_pairs(decoder *d, PyObject *dict, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = dec_item(d);
        PyObject *value = key == NULL ? NULL : dec_item(d);
        int rc = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* The keys that follow, as the next form. -1 with an exception. */
__attribute__((noinline)) static int
new_form(decoder *d)
{
    if (d->nforms == d->form_room) {
        bool first = d->forms == d->forms_small;
        size_t room = d->form_room * 4;
        dict_form *more = first
                              ? atoll_alloc(room * sizeof(*more))
                              : atoll_realloc(d->forms, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (first) {
            memcpy(more, d->forms_small, sizeof(d->forms_small));
        }
        d->forms = more;
        d->form_room = room;
    }
    PyObject *keys = PyTuple_New(dec_u8(d));
    for (Py_ssize_t i = 0; keys != NULL && i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *key = dec_object(d);
        if (key == NULL) {
            Py_CLEAR(keys);
            break;
        }
        PyTuple_SET_ITEM(keys, i, key);
    }
    dict_form *form = &d->forms[d->nforms];
    if (keys == NULL || layout_form_init(d->state, &form->layout, keys) < 0) {
        Py_XDECREF(keys);
        return -1;
    }
    form->names = keys;
    d->nforms++;
    return 0;
}

/* The values for the keys of a form from `i` on, one by one. */
static int
dec_values(decoder *d, PyObject *dict, size_t form, Py_ssize_t i,
           Py_ssize_t count)
{
    int rc = 0;
    for (; i < count && rc == 0; i++) {
        if (*d->at == TAG_BREAK) {
            d->at++;
            return dec_pairs(d, dict, count - i);
        }
        PyObject *value = dec_item(d);
        PyObject *key = PyTuple_GET_ITEM(d->forms[form].names, i);
        rc = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
        Py_XDECREF(value);
    }
    return rc;
}

/* A dict is made of a table only if nobody can see it grow: it has no number,
 * or no code of the user's has run so far. */
static inline bool
is_unseen(const decoder *d, bool memo)
{
    return !memo || !d->linked;
}

/* The values into a copy of the form's table, which the dict then gets. */
static int
dec_form_table(decoder *d, PyObject *dict, size_t form, Py_ssize_t count)
{
    layout_keys *keys = layout_form_table(&d->forms[form].layout);
    if (keys == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (*d->at == TAG_BREAK) {
            return layout_set_pairs(dict, keys) < 0
                       ? -1
                       : dec_values(d, dict, form, i, count);
        }
        PyObject *value = dec_item(d);
        if (value == NULL) {
            layout_drop(keys);
            return -1;
        }
        layout_append(keys, value);
    }
    return layout_give(d->state, dict, keys);
}

__attribute__((noinline)) static PyObject *
dec_formed(decoder *d, bool first, bool memo)
{
    /* The dict has its number before its keys have theirs. */
    size_t form = first ? d->nforms : dec_u32(d);
    Py_ssize_t count =
        first ? *d->at : PyTuple_GET_SIZE(d->forms[form].names);
    bool table = layout_writes(d->state, count) && is_unseen(d, memo);
    PyObject *dict = table ? PyDict_New() : compat_dict_presized(count);
    int rc = dict == NULL ? -1 : dec_number(d, memo, dict);
    if (rc == 0 && first) {
        rc = new_form(d);
    }
    if (rc == 0) {
        table = table && d->forms[form].layout.keys != NULL;
        rc = table ? dec_form_table(d, dict, form, count)
                   : dec_values(d, dict, form, 0, count);
    }
    if (rc < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* Pairs into a table, as long as the keys are str; the rest one by one. Not
 * inline, as others here: what is nested deeply needs small frames. */
__attribute__((noinline)) static int
dec_table(decoder *d, PyObject *dict, Py_ssize_t count)
{
    layout_keys *keys = layout_table(count);
    if (keys == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key, *value = NULL;
        Py_hash_t hash = -1;
        if (*d->at == TAG_KEY8) {
            d->at++;
            key = dec_key(d);
        }
        else {
            key = dec_object(d);
        }
        bool is_str = key != NULL && PyUnicode_CheckExact(key);
        if (is_str) {
            hash = ((PyASCIIObject *)key)->hash;
            hash = hash == -1 ? PyObject_Hash(key) : hash;
        }
        value = key == NULL ? NULL : dec_item(d);
        if (value == NULL) {
            Py_XDECREF(key);
            layout_drop(keys);
            return -1;
        }
        if (is_str && layout_put(keys, key, hash, value)) {
            continue;
        }
        int rc = layout_give(d->state, dict, keys);
        rc = rc < 0 ? -1 : PyDict_SetItem(dict, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
        return rc < 0 ? -1 : dec_pairs(d, dict, count - i - 1);
    }
    return layout_give(d->state, dict, keys);
}

/* Can what follows be a str? */
static inline bool
is_str_next(const decoder *d)
{
    int tag = *d->at & ~MEMO;
    return tag == TAG_KEY8 || tag == TAG_ASCII8 || tag == TAG_STR ||
           tag == TAG_REF;
}

static PyObject *
dec_dict(decoder *d, Py_ssize_t count, bool memo)
{
    bool table = layout_writes(d->state, count) && is_unseen(d, memo) &&
                 is_str_next(d);
    PyObject *dict = table ? PyDict_New() : compat_dict_presized(count);
    if (dict == NULL || dec_number(d, memo, dict) < 0 ||
        (table ? dec_table(d, dict, count) : dec_pairs(d, dict, count)) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *
dec_frozendict(decoder *d, Py_ssize_t count, bool memo)
{
#ifdef COMPAT_FROZENDICT
    PyObject *dict = compat_dict_presized(count), *frozen = NULL;
    if (dict != NULL && dec_pairs(d, dict, count) == 0) {
        frozen = PyFrozenDict_New(dict);
    }
    Py_XDECREF(dict);
    return numbered(d, memo, frozen);
#else
    (void)d, (void)count, (void)memo;
    Py_UNREACHABLE(); /* nobody can have sent one */
#endif
}

static PyObject *
dec_set(decoder *d, bool frozen, Py_ssize_t count, bool memo)
{
    PyObject *set = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
    if (set == NULL || dec_number(d, memo && !frozen, set) < 0) {
        Py_XDECREF(set);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = dec_object(d);
        int rc = item == NULL ? -1 : PySet_Add(set, item);
        Py_XDECREF(item);
        if (rc < 0) {
            Py_DECREF(set);
            return NULL;
        }
    }
    return frozen ? numbered(d, memo, set) : set;
}

static PyObject *
dec_slice(decoder *d, bool memo)
{
    PyObject *parts[3] = {NULL, NULL, NULL}, *slice = NULL;
    for (int i = 0; i < 3; i++) {
        parts[i] = dec_object(d);
        if (parts[i] == NULL) {
            break;
        }
    }
    if (parts[2] != NULL) {
        slice = PySlice_New(parts[0], parts[1], parts[2]);
    }
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(parts[i]);
    }
    return numbered(d, memo, slice);
}

static PyObject *
dec_handle(decoder *d)
{
    const handle *h = &d->handles[dec_u32(d)];
    return h->kind == HANDLE_HOME
               ? interpreter_from_home(d->state, h->ptr)
               : chanobj_get(d->state, h->kind, h->ptr);
}

static PyObject *
dec_foreign(decoder *d)
{
    int64_t id = (int64_t)dec_u64(d);
    if (d->state->interpreter_class == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "atoll is not fully imported");
        return NULL;
    }
    return PyObject_CallFunction(d->state->interpreter_class, "L",
                                 (long long)id);
}

/* ------------------------------------------------------------- any object */

/* What needs no recursion. NULL without an exception: it is not one of these. */
static PyObject *
dec_atom(decoder *d, int tag)
{
    switch (tag) {
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_TRUE:
        Py_RETURN_TRUE;
    case TAG_FALSE:
        Py_RETURN_FALSE;
    case TAG_ELLIPSIS:
        return Py_NewRef(Py_Ellipsis);
    case TAG_NOTIMPLEMENTED:
        return Py_NewRef(Py_NotImplemented);
    case TAG_INT8:
        return PyLong_FromLong((int8_t)dec_u8(d));
    case TAG_INT32:
        return PyLong_FromLong((int32_t)dec_u32(d));
    case TAG_INT:
        return PyLong_FromLongLong((long long)dec_u64(d));
    case TAG_BIGINT: {
        size_t size = (size_t)dec_u64(d);
        return PyLong_FromNativeBytes(dec_take(d, size), size,
                                      Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    }
    case TAG_FLOAT: {
        double value;
        memcpy(&value, dec_take(d, sizeof(value)), sizeof(value));
        return PyFloat_FromDouble(value);
    }
    case TAG_COMPLEX: {
        Py_complex value;
        memcpy(&value, dec_take(d, sizeof(value)), sizeof(value));
        return PyComplex_FromCComplex(value);
    }
    case TAG_ASCII8:
        return dec_ascii(d);
    case TAG_KEY8:
        return dec_key(d);
    case TAG_STR:
        return dec_str(d);
    case TAG_BYTES8:
    case TAG_BYTES: {
        size_t size = tag == TAG_BYTES8 ? dec_u8(d) : (size_t)dec_u64(d);
        return PyBytes_FromStringAndSize((const char *)dec_take(d, size),
                                         (Py_ssize_t)size);
    }
    case TAG_BYTEARRAY: {
        size_t size = (size_t)dec_u64(d);
        return PyByteArray_FromStringAndSize((const char *)dec_take(d, size),
                                             (Py_ssize_t)size);
    }
    case TAG_BLOB:
        return dec_blob(d);
    case TAG_REF:
        return Py_NewRef(d->memo[dec_u32(d)]);
    case TAG_HANDLE:
        return dec_handle(d);
    case TAG_FOREIGN:
        return dec_foreign(d);
    }
    Py_UNREACHABLE();
}

static PyObject *
dec_container(decoder *d, int tag, bool memo)
{
    switch (tag) {
    case TAG_TUPLE8:
        return dec_tuple(d, dec_u8(d), memo);
    case TAG_TUPLE:
        return dec_tuple(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_LIST8:
        return dec_list(d, dec_u8(d), memo);
    case TAG_LIST:
        return dec_list(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_DICT8:
        return dec_dict(d, dec_u8(d), memo);
    case TAG_DICT:
        return dec_dict(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_NEW_FORM:
    case TAG_FORM:
        return dec_formed(d, tag == TAG_NEW_FORM, memo);
    case TAG_FROZENDICT:
        return dec_frozendict(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_SET:
    case TAG_FROZENSET:
        return dec_set(d, tag == TAG_FROZENSET, (Py_ssize_t)dec_u64(d), memo);
    case TAG_SLICE:
        return dec_slice(d, memo);
    case TAG_MEMORY:
    case TAG_VIEW:
    case TAG_MOVED:
    case TAG_FD: {
        PyObject *obj = view_decode(d, tag);
        if (obj != NULL && dec_number(d, memo, obj) < 0) {
            Py_CLEAR(obj);
        }
        return obj;
    }
    default:
        return dec_other(d, tag, memo);
    }
}

static inline bool
is_atom(int tag)
{
    return tag <= TAG_BLOB || tag == TAG_REF || tag == TAG_HANDLE ||
           tag == TAG_FOREIGN;
}

PyObject *
dec_object(decoder *d)
{
    int tag = dec_u8(d);
    bool memo = (tag & MEMO) != 0;
    tag &= ~MEMO;
    if (is_atom(tag)) {
        PyObject *obj = dec_atom(d, tag);
        if (memo && obj != NULL && dec_number(d, true, obj) < 0) {
            Py_CLEAR(obj);
        }
        return obj;
    }
    if (Py_EnterRecursiveCall(" while an object is received")) {
        return NULL;
    }
    PyObject *obj = dec_container(d, tag, memo);
    Py_LeaveRecursiveCall();
    return obj;
}

PyObject *
xfer_decode(core_state *state, atoll_msg *msg)
{
    switch (msg->tag) {
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_INT:
        return PyLong_FromLongLong(msg->u.i64);
    case TAG_FLOAT:
        return PyFloat_FromDouble(msg->u.f64);
    }
    decoder d;
    d.state = state;
    d.handles = NULL;
    d.nhandles = 0;
    d.memo = d.memo_small;
    d.memo_used = 0;
    d.memo_room = DEC_MEMO;
    d.forms = d.forms_small;
    d.nforms = 0;
    d.form_room = DEC_FORMS;
    d.shapes = d.shapes_small;
    d.nshapes = 0;
    d.shape_room = DEC_SHAPES;
    d.linked = false;
    if (msg->tag == TAG_FLAT) {
        d.at = msg->u.bytes;
        d.end = d.at + msg->len;
    }
    else {
        block *b = msg->u.heap.ptr;
        d.at = b->data;
        d.end = d.at + b->size;
        d.handles = b->handles;
        d.nhandles = b->nhandles;
    }
    PyObject *obj = dec_object(&d);
    PyObject *exc = obj == NULL ? PyErr_GetRaisedException() : NULL;
    decoder_fini(&d);
    if (msg->drop == wire_drop_block) {
        wire_drop_handles(msg->u.heap.ptr);
        block_give(state, msg->u.heap.ptr);
        msg->drop = NULL;
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return obj;
}

struct home *
xfer_noted_home(core_state *state, int64_t id)
{
    unsigned long thread = PyThread_get_thread_ident();
    for (decoder *d = state->decoders; d != NULL; d = d->outer) {
        for (size_t i = 0; d->thread == thread && i < d->nhandles; i++) {
            struct home *h = d->handles[i].ptr;
            if (d->handles[i].kind == HANDLE_HOME && h->id == id) {
                return h;
            }
        }
    }
    return NULL;
}
