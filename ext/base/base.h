/* What one interpreter has of atoll: the state of its copy of the module.
 *
 * Guarded by that interpreter's GIL. Everything that belongs to the process
 * (channels, homes) is counted outside of it.
 */
#ifndef EXT_BASE_BASE_H
#define EXT_BASE_BASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "atoll/atoll.h"

struct home;
struct party;
struct buffer;
struct encoder;
struct decoder;

/* See cpython/dict.h. */
struct dict_layout {
    bool reads, writes;       /* what is done */
    bool can_read, can_write; /* what could be done */
    bool tracked;             /* is a new dict in the hands of the collector? */
    void *empty;              /* the keys of one */
};

typedef struct core_state {
    PyObject *module; /* borrowed: the state lives in it */
    PyTypeObject *sync_types[9]; /* see sync_add_types in sync/object.c */
    PyTypeObject *queue_type, *send_type, *recv_type, *home_type,
        *sink_type, *job_type, *cq_type, *op_type;
    PyObject *interpreter_class; /* atoll.Interpreter, set by the package */
    PyObject *handles;           /* channel id and end -> address of the live
                                    Python object, borrowed: one per id */
    PyObject *errors;            /* name -> class, filled on demand */
    PyObject *constant, *by_value, *reduce, *exception_state, *traceback_text,
        *loads, *rebuild_exception;      /* of atoll._pickle, imported on demand */
    PyObject *copyreg_table;     /* copyreg.dispatch_table, likewise */
    PyObject *reducers;          /* type -> (reduce, rebuild): atoll.register */
    PyObject *inherit;           /* atoll._registry's, or NULL */
    PyTypeObject *buffer_type, *view_type, *moved_type, *fd_type,
        *frozen_type, *element_type, *walk_type, *xml_parse_type;
    PyTypeObject *frozen_views[6]; /* see frozen/view/view.h; made on demand */
    struct elementobj **elements; /* the live ones by address: frozen/xml/element.c */
    size_t nelements, element_mask;
    struct mailbox *mailbox;     /* counted: what comes home to be released */
    struct block *spare;         /* see wire/form.h; or NULL */
    bool can_adopt;              /* see cpython/adopt.h */
    struct dict_layout layout;
    PyObject *failure;           /* of atoll._future, on demand */
    PyObject *drain;             /* main: of atoll._output, on demand */
    PyObject *single_phase;      /* isolated: see isolate/import.c */
    PyObject *create_extension, *create_builtin, *exec_extension,
        *exec_builtin, *exec_source, *ctypes_dlopen; /* CPython's, likewise */
    PyObject *aio;               /* atoll._aio, on demand */
    struct frozen_opened *opened; /* what frozen graphs became: frozen/mold.h */
    struct selection *selection; /* memory for the next, or NULL */
    uint64_t random;             /* of select; 0: not begun */
    struct cqobj *cqs;           /* its completion queues; see async/async.h */
    struct buffer *buffers;      /* lines that its threads have begun */
    uint64_t caught_up; /* main: all output up to this one is written */
    struct encoder *encoders;    /* pickles being written, innermost first */
    struct decoder *decoders;    /* pickles being read */
    struct party *party;         /* see wait/record.h */
    int64_t interp_id;
    int wakeup_fd; /* what signal.set_wakeup_fd was told; -1: nothing */
    struct home *home; /* the home of this interpreter, if atoll made it;
                          counted */
    bool is_main;      /* the main interpreter */
} core_state;

extern PyModuleDef core_module;

/* The state of the current interpreter's module, importing it if need be.
 * NULL with an exception. */
core_state *core_state_import(void);

/* --- base/errors.c */

/* Raise atoll.errors.<name> with a formatted message. Always returns NULL. */
PyObject *raise_error(core_state *state, const char *name, const char *format,
                      ...);
/* The class itself: a borrowed reference, NULL with an exception. */
PyObject *error_class(core_state *state, const char *name);
/* For codes that mean the same everywhere (NOMEM, FORKED, ...). */
PyObject *raise_err(core_state *state, atoll_err err, const char *what);

/* At import: sys._current_frames and its like know one interpreter (cpython/frames.c). 0,
 * or -1 with an exception. */
int sys_mend_frames(void);

/* --- the types, each in its own file; return 0 or -1 */
int queue_add_type(core_state *state);
int channel_add_types(core_state *state);
int home_add_type(core_state *state);
int sink_add_type(core_state *state);

int sync_add_types(core_state *state);

extern PyMethodDef queue_functions[];
extern PyMethodDef sync_functions[];
extern PyMethodDef channel_functions[];
extern PyMethodDef home_functions[];
extern PyMethodDef output_functions[];
extern PyMethodDef sink_functions[];
extern PyMethodDef isolate_functions[];
extern PyMethodDef interrupt_functions[];
extern PyMethodDef survey_functions[];

#endif
