/* What interpreters print and log, on its way to main's streams.
 *
 * In an interpreter of atoll's, sys.stdout and sys.stderr (atoll/_output/stream.py)
 * write to sinks (output/sink.c). A sink collects text per thread until a line is
 * complete and sends whole lines, as one piece, to the one list of the process
 * (output/output.c). The list belongs to no interpreter, so a writer waits for nobody's
 * GIL, and what was printed is there even if its interpreter is stuck at
 * process exit.
 *
 * The main interpreter writes the pieces out, in order (atoll/_output/drain.py):
 * its callers of exec, call and close before they return, up to the last piece
 * of what they called; and at any other time a thread of the core's own, which
 * has no thread state while there is nothing to write.
 *
 * Pieces are numbered from 1 in the order of the list. Lock order: list of buffers, a
 * buffer, list of pieces, then the core's locks.
 */
#ifndef EXT_OUTPUT_OUTPUT_H
#define EXT_OUTPUT_OUTPUT_H

#include "base/base.h"
#include "wait/record.h"

/* Who prints: an interpreter, for as long as anything that it began to print is there.
 * Belongs to the process. */
typedef struct output_source {
    uint32_t refs;    /* atomic */
    int64_t id;       /* constant: of the interpreter */
    uint64_t printed; /* guarded by its GIL: the last piece that anybody in it, or in an
                         interpreter that it has waited for, has sent; 0: none */
} output_source;

/* What an interpreter has of the room. */
typedef struct output_data {
    PyTypeObject *sink_type;
    PyObject *drain;        /* main: of atoll._output.drain, on demand */
    struct buffer *buffers; /* lines that its threads have begun */
    uint64_t caught_up;     /* main: all output up to this one is written */
    output_source *source;  /* counted; NULL: it is none of atoll's */
} output_data;

extern const core_room output_room;

/* What one waits for; there is no object. */
extern const wait_type wait_output;

/* The package has them, too: _OUTPUT_STDOUT and so on. */
typedef enum output_kind {
    OUTPUT_STDOUT,
    OUTPUT_STDERR,
    OUTPUT_RECORD,   /* of logging, marshalled */
    OUTPUT_COVERAGE, /* what coverage has measured; see atoll/_look/coverage.py */
} output_kind;

/* What is written out as a whole. */
typedef struct piece {
    struct piece *next;
    uint64_t seq;
    int64_t interp; /* who sent it */
    size_t size;
    output_kind kind;
    bool binary; /* bytes, not UTF-8 */
    bool flush;  /* flush the stream afterwards */
    char data[];
} piece;

/* --- the list (output/output.c) */

/* A piece to be filled and sent; NULL without memory. */
piece *output_piece(output_kind kind, bool binary, size_t size);

/* Main has imported atoll: it can be written to. */
void output_main_ready(void);

/* Take over `p`, from `source`. Returns its number, or 0 if nobody will ever write
 * it. */
uint64_t output_send(const output_source *source, piece *p);

/* After a send: wait a moment if too much is waiting to be written. -1 with an
 * exception. */
int output_hold_up(core_state *state);

/* Wait until pieces up to `last` are written, a second at most: before something is
 * read from who has to have seen them. -1 with an exception. */
int output_wait_written(core_state *state, uint64_t last);

/* A job that has come back had `last` (0: nothing) as its last piece. In main,
 * write out all that is not newer; elsewhere remember it. -1 with an exception:
 * a signal handler's, or a broken pipe. */
int output_catch_up(core_state *state, uint64_t last);

/* At process exit, in main, attached: write out all that there is, then be
 * deaf. */
void output_shutdown(core_state *state);

/* Have main's forks wait for what writes here, from the import of atoll on and not from
 * when the writer is imported: that may be by another thread, while main forks. In
 * main. 0, or -1 with an exception. */
int output_watch_forks(void);

/* Hold the list and the buffers still, for a fork. */
void output_fork_prepare(void);

/* Let go of them. */
void output_fork_parent(void);

/* Forget, in the child, what the parent has still to write. */
void output_fork_child(void);

/* --- the sinks of an interpreter (output/sink.c); attached to it */

/* Give the new interpreter its streams. `streams` and `logging` are those of the setup;
 * see atoll/_output/stream.py. Returns what stands for it here, with a reference for
 * the caller; NULL with an exception. */
output_source *sink_boot(core_state *state, PyObject *streams, PyObject *logging);

/* Give a reference back. Any thread. */
void output_source_unref(output_source *source);

/* Send what is left of a line, at the end of a job. Returns the number of the last
 * piece: output_source.printed. In the home's thread. */
uint64_t sink_job_over(core_state *state);

/* Give up the buffers of an interpreter whose module goes. */
void sink_forget(core_state *state);

/* At process exit, in main: send the lines that were begun by interpreters
 * that could not be ended. */
void sink_send_all(void);

/* Make the type. 0, or -1 with an exception. */
int sink_add_type(core_state *state);

extern PyMethodDef output_functions[], sink_functions[];

/* Hold the buffers still, for a fork. */
void sink_fork_prepare(void);

/* Let go of them. */
void sink_fork_parent(void);

/* Make the locks of the buffers anew, in the child. */
void sink_fork_child(void);

#endif
