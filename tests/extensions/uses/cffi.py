import os

import cffi

DECLARATIONS = """
typedef unsigned long size_t;
typedef struct { int quot; int rem; } div_t;
typedef struct { double x; int tags[4]; char name[8]; } item;
int getpid(void);
size_t strlen(const char *);
div_t div(int, int);
double strtod(const char *, char **);
int snprintf(char *, size_t, const char *, ...);
void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
void *bsearch(const void *, const void *, size_t, size_t,
              int (*)(const void *, const void *));
extern char **environ;
"""


def use(seed: int) -> None:
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    libc = ffi.dlopen(None)
    assert libc.getpid() == os.getpid()
    assert libc.strlen("naïve".encode()) == 6
    answer = libc.div(1000 + seed, 7)
    assert (answer.quot, answer.rem) == divmod(1000 + seed, 7)
    end = ffi.new("char **")
    text = ffi.new("char[]", b"2.5e3rest")
    assert libc.strtod(text, end) == 2500.0 and ffi.string(end[0]) == b"rest"
    out = ffi.new("char[]", 64)
    written = libc.snprintf(
        out, 64, b"%d %s %.2f", ffi.cast("int", seed), text, ffi.cast("double", 1.5)
    )
    wanted = b"%d 2.5e3rest 1.50" % seed
    assert written == len(wanted) and ffi.string(out) == wanted
    assert libc.environ != ffi.NULL

    # Python code that C calls back: some ten thousand times, and with an error.
    calls = 0

    @ffi.callback("int(const void *, const void *)")
    def compare(a: object, b: object) -> int:
        nonlocal calls
        calls += 1
        x, y = ffi.cast("const int *", a)[0], ffi.cast("const int *", b)[0]
        return int(x > y) - int(x < y)

    numbers = [(i * 7919 + seed) % 10007 for i in range(1000)]
    array = ffi.new("int[]", numbers)
    libc.qsort(array, len(numbers), ffi.sizeof("int"), compare)
    assert list(array) == sorted(numbers) and calls > 1000
    key = ffi.new("int *", numbers[500])
    found = libc.bsearch(key, array, len(numbers), ffi.sizeof("int"), compare)
    assert ffi.cast("int *", found)[0] == numbers[500]

    caught: list[type[BaseException]] = []

    def onerror(kind: type[BaseException], error: object, traceback: object) -> None:
        caught.append(kind)

    failing = ffi.callback("int(int)", lambda n: 1 // (n - seed), error=-7, onerror=onerror)
    assert failing(seed + 1) == 1 and failing(seed) == -7
    assert caught == [ZeroDivisionError]

    # Structures, handles of Python objects, memory that frees itself.
    items = ffi.new("item[3]", [{"x": 0.5, "tags": [1, 2], "name": b"one"}] * 3)
    items[2].tags[3] = seed
    assert ffi.sizeof("item") == 32 and list(items[2].tags) == [1, 2, 0, seed]
    assert bytes(ffi.buffer(items)[24:27]) == b"one"
    token = object()
    handle = ffi.new_handle(token)
    assert ffi.from_handle(ffi.cast("void *", handle)) is token
    freed: list[int] = []
    owned = ffi.gc(ffi.new("int *", seed), lambda pointer: freed.append(pointer[0]))
    assert owned[0] == seed
    ffi.release(owned)
    assert freed == [seed]
    ffi.dlclose(libc)
