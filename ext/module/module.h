/* Putting the rooms together. */
#ifndef EXT_MODULE_MODULE_H
#define EXT_MODULE_MODULE_H

#include "base/base.h"

/* Install what is to be done around forks. Once a process, however often it is called.
 * 0, or -1 with MemoryError. */
int fork_start(void);

/* Make its locks anew, in the child of a fork. */
void module_fork_child(void);

/* Make the definition of the module: what CPython calls. */
PyMODINIT_FUNC PyInit__core(void);

#endif
