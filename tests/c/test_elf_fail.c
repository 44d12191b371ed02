/* Private copies that cannot be made: there is a reason, nothing is left
 * behind, and nothing is lost. Every call to the system fails once, in turn,
 * and every allocation. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_helper.h"

#include <sched.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/resource.h>

/* --------------------------------------------------------------- the system */

/* This program's only thread is in them. meson.build lists the functions. */
static bool armed;       /* calls are counted */
static long calls;       /* so far */
static long fail_at;     /* the call that fails; 0: none */
static int fail_errno;   /* with this */
static const char *only; /* if not NULL: all calls of that function fail */
static long failed;

static bool
refuse(const char *function)
{
    if (!armed) {
        return false;
    }
    calls++;
    bool now = only != NULL ? strcmp(function, only) == 0 : calls == fail_at;
    if (now) {
        errno = fail_errno;
        failed++;
    }
    return now;
}

#define WRAP(type, name, bad, parameters, arguments)            \
    type __real_##name parameters;                              \
    type __wrap_##name parameters;                              \
    type __wrap_##name parameters                               \
    {                                                           \
        return refuse(#name) ? (bad) : __real_##name arguments; \
    }

WRAP(int, open64, -1, (const char *path, int flags, unsigned mode), (path, flags, mode))
WRAP(int, fstat64, -1, (int fd, void *st), (fd, st))
WRAP(void *, mmap64, MAP_FAILED,
     (void *at, size_t size, int access, int flags, int fd, off_t offset),
     (at, size, access, flags, fd, offset))
WRAP(int, memfd_create, -1, (const char *name, unsigned flags), (name, flags))
WRAP(ssize_t, pwrite64, -1, (int fd, const void *bytes, size_t size, off_t offset),
     (fd, bytes, size, offset))
WRAP(int, fallocate64, -1, (int fd, int mode, off_t offset, off_t size),
     (fd, mode, offset, size))
WRAP(char *, mkdtemp, NULL, (char *path), (path))
WRAP(int, mkdir, -1, (const char *path, mode_t mode), (path, mode))
WRAP(int, symlink, -1, (const char *to, const char *path), (to, path))
WRAP(int, mprotect, -1, (void *at, size_t size, int access), (at, size, access))
WRAP(char *, realpath, NULL, (const char *path, char *out), (path, out))
WRAP(int, access, -1, (const char *path, int mode), (path, mode))
WRAP(void *, dlopen, NULL, (const char *path, int mode), (path, mode))
WRAP(int, dlinfo, -1, (void *handle, int what, void *out), (handle, what, out))

/* -------------------------------------------------------------- allocations */

static long live; /* allocations of the core */

static void *
counted_alloc(size_t size, void *arg)
{
    (void)arg;
    void *ptr = refuse("atoll_alloc") ? NULL : malloc(size);
    live += ptr != NULL;
    return ptr;
}

static void *
counted_realloc(void *ptr, size_t size, void *arg)
{
    (void)arg;
    void *grown = refuse("atoll_alloc") ? NULL : realloc(ptr, size);
    live += ptr == NULL && grown != NULL;
    return grown;
}

static void
counted_free(void *ptr, void *arg)
{
    (void)arg;
    live--;
    free(ptr);
}

/* ----------------------------------------------------------------- scenario */

static char *
their_getenv(const char *name)
{
    (void)name;
    return NULL;
}

static int
their_key(void *key, void *destructor)
{
    (void)key, (void)destructor;
    return 78;
}

#define FUNCTION(f) ((void *)(uintptr_t)(f))

static const atoll_elf_redirect redirects[] = {
    {"getenv", FUNCTION(their_getenv)},
    {"pthread_key_create", FUNCTION(their_key)},
};

static size_t
count_events(const char *what)
{
    size_t count = 0;
    for (const char *at = events; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

/* Load `path` and, if that worked, use it; then all is as it was. */
static bool
attempt(const char *path, const char *function, int result)
{
    static size_t failures_without_text;
    atoll_why why = {""};
    bool fresh = false;
    size_t files = open_files();
    calls = failed = 0;
    armed = true;
    atoll_elf_space *space = atoll_elf_space_new(redirects, 2);
    void *handle = space == NULL
                       ? NULL
                       : atoll_elf_space_load(space, path, RTLD_NOW, &fresh, &why);
    armed = false;
    bool good = handle != NULL;
    CHECK(fresh == good);
    if (good) {
        CHECK(call(handle, function) == result);
    }
    else if (space != NULL) {
        failures_without_text += why.text[0] == '\0';
        CHECK(atoll_elf_space_count(space) == 0);
    }
    if (space != NULL) {
        atoll_elf_space_drop_last(space, 0);
        CHECK(atoll_elf_space_free(space, true));
    }
    CHECK(failures_without_text == 0);
    /* What has not been constructed is not destructed; what has is not either,
     * if the loader could not be told to. */
    CHECK(count_events("-mod") <= count_events("+mod"));
    CHECK(count_events("-pyuser") <= count_events("+pyuser"));
    CHECK(failed > 0 || count_events("-") == count_events("+"));
    CHECK(good || count_events("+mod") == 0);
    events[0] = '\0';
    CHECK(live == 0);
    CHECK(is_clean());
    CHECK(open_files() == files);
    CHECK(maps_of("memfd:") == 0 && maps_of("/pkg") == 0);
    return good;
}

/* Each call fails once. How many loads fail of it? */
static void
each_call_fails(const char *path, const char *function, int result)
{
    static const int errors[] = {ENOSPC, EMFILE, ENOMEM};
    long loads = 0, refusals = 0;
    fail_at = 0;
    CHECK(attempt(path, function, result));
    long all = calls;
    for (size_t i = 0; i < 3; i++) {
        fail_errno = errors[i];
        for (fail_at = 1;; fail_at++) {
            bool good = attempt(path, function, result);
            if (failed == 0) {
                break;
            }
            loads += good;
            refusals += !good;
        }
        CHECK(fail_at >= all); /* not: it was never reached */
    }
    fail_at = 0;
    printf("# %ld calls; %ld loads in spite of a failure, %ld refused\n", all, loads,
           refusals);
    CHECK(all > 20 && refusals > loads / 2);
}

static void
each_call_fails_once(void)
{
    each_call_fails(put("imports.so", "pkg/imports.so"), "call_key", 78);
    each_call_fails(put_package(), "mod_other", 101);
}

static void
each_call_fails_once_for_far_libraries(void)
{
    make_folder("away");
    make_folder("more.libs");
    put("libatoll-neighbour.so", "more.libs/libatoll-neighbour.so");
    put("libatoll-pyuser.so", "away/libatoll-pyuser.so");
    CHECK(setenv("LD_LIBRARY_PATH", in_box("away"), 1) == 0);
    each_call_fails(put("mod_bare.so", "pkg/bare.so"), "mod_other", 101);
    CHECK(unsetenv("LD_LIBRARY_PATH") == 0);
}

/* All calls of one function fail: what is then done instead? */
static void
without(const char *function, int error, bool loads)
{
    only = function;
    fail_errno = error;
    if (!CHECK(attempt(put_package(), "mod_other", 101) == loads) ||
        !CHECK(failed > 0)) {
        printf("# %s\n", function);
    }
    only = NULL;
}

static void
systems_may_lack_something(void)
{
    without("memfd_create", ENOSYS, true); /* a file without a name, then */
    without("memfd_create", EACCES, true);
    without("memfd_create", ENOMEM, false);
    without("mkdtemp", EROFS, false);
    without("symlink", EPERM, false);
    without("mmap64", ENOMEM, false);
    without("access", ENOENT, false);
    only = "access";
    fail_errno = ENOENT;
    armed = true;
    CHECK(refused(put("plain.so", "plain.so"), "/proc"));
    armed = false;
    only = "mkdtemp";
    fail_errno = EROFS;
    armed = true;
    CHECK(refused(in_box("plain.so"), "set TMPDIR"));
    armed = false;
    only = "mprotect";
    armed = true;
    atoll_why why;
    void *target = NULL;
    CHECK(atoll_thunks_new(NULL, &target, (const uint8_t[]){0}, 1, &why) == NULL);
    CHECK(strstr(why.text, "run time") != NULL);
    armed = false;
    only = NULL;
}

/* ---------------------------------------------------------------- bad files */

static void
make_text(const char *name, const char *text)
{
    write_whole(in_box(name), text, strlen(text));
}

/* A fixture with `width` bytes at `offset` changed. */
static const char *
damaged(const char *name, size_t offset, uint64_t value, size_t width)
{
    size_t size;
    uint8_t *bytes = read_whole(fixture(name), &size);
    memcpy(bytes + offset, &value, width);
    write_whole(in_box("damaged.so"), bytes, size);
    free(bytes);
    return in_box("damaged.so");
}

static void
bad_files_are_refused(void)
{
    CHECK(refused(in_box("nothing.so"), "No such file"));
    CHECK(refused(in_box("pkg"), "not an ELF file"));
    make_text("empty.so", "");
    CHECK(refused(in_box("empty.so"), "not an ELF file"));
    make_text("text.so",
              "/* GNU ld script */ INPUT ( libm.so.6 AS_NEEDED ( libmvec.so.1 "
              ") ) /* and some more text, to be longer than a header */");
    CHECK(refused(in_box("text.so"), "not an ELF file"));
    CHECK(mkfifo(in_box("pipe.so"), 0600) == 0);
    CHECK(refused(in_box("pipe.so"), "not an ELF file"));
    CHECK(refused("/dev/null", "not an ELF file"));
    CHECK(refused("relative.so", "not an absolute path"));
    CHECK(refused(damaged("plain.so", EI_CLASS, ELFCLASS32, 1), "another machine"));
    CHECK(refused(damaged("plain.so", EI_DATA, ELFDATA2MSB, 1), "another machine"));
    CHECK(refused(damaged("plain.so", 18, EM_SPARC, 2), "another machine"));
    CHECK(refused(damaged("plain.so", 16, ET_EXEC, 2), "not a shared object"));
    CHECK(refused(damaged("plain.so", 32, UINT64_MAX - 7, 8), "damaged"));
    CHECK(refused(damaged("plain.so", 56, 0xffff, 2), "damaged"));
    CHECK(refused(damaged("plain.so", 56, 0, 2), "no dynamic section"));
    size_t size;
    uint8_t *bytes = read_whole(fixture("plain.so"), &size);
    for (size_t cut = 0; cut < 0x3000; cut += 200) {
        write_whole(in_box("cut.so"), bytes, cut);
        CHECK(refused_for(in_box("cut.so"), "not an ELF file", "damaged"));
    }
    free(bytes);

    char path[PATH_MAX + 10];
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    CHECK(refused(path, "too long"));
}

static void
bad_libraries_are_refused(void)
{
    const char *path = put_package();
    CHECK(unlink(in_box("pkg.libs/libatoll-pyuser.so")) == 0);
    CHECK(refused(path, "libatoll-pyuser.so: cannot open shared object"));
    make_text("pkg.libs/libatoll-pyuser.so", "no library");
    CHECK(refused(path, "pkg.libs/libatoll-pyuser.so: not an ELF file"));
    put_package();
    CHECK(unlink(in_box("pkg.libs/libatoll-neighbour.so")) == 0);
    CHECK(refused(path, "libatoll-neighbour.so: cannot open shared object"));
    /* One for another machine is passed by. */
    rename(damaged("libatoll-neighbour.so", 18, EM_SPARC, 2),
           in_box("pkg.libs/libatoll-neighbour.so"));
    CHECK(refused(path, "libatoll-neighbour.so: cannot open shared object"));
    make_folder("more.libs");
    put("libatoll-neighbour.so", "more.libs/libatoll-neighbour.so");
    CHECK(attempt(path, "mod_other", 101));
    CHECK(unlink(in_box("more.libs/libatoll-neighbour.so")) == 0);
    /* A library without the function that is wanted of it; the reason names
     * files as people know them. */
    put("libatoll-one.so", "pkg.libs/libatoll-neighbour.so");
    CHECK(refused(path, "undefined symbol: neighbour_bump"));
    CHECK(refused(path, in_box("pkg")));
    put_package();
    CHECK(attempt(path, "mod_other", 101));

    /* Names that cannot be replaced. */
    CHECK(refused(put("mod_clash.so", "pkg/clash.so"), "part of another"));
    /* A far library that is not found by what it calls itself. */
    make_folder("strange");
    put("libatoll-neighbour.so", "strange/libatoll-neighbour.so");
    put("alias-copied.so", "strange/libatoll-pyuser.so");
    CHECK(setenv("LD_LIBRARY_PATH", in_box("strange"), 1) == 0);
    CHECK(refused(put("mod_bare.so", "pkg/bare.so"),
                  "libatoll-pyuser.so calls itself libatoll-second.so"));
    CHECK(unsetenv("LD_LIBRARY_PATH") == 0);
}

/* ------------------------------------------------------------------- limits */

/* One more descriptor each time, until there are enough. */
static void
descriptors_run_out(void)
{
    const char *path = put_package();
    struct rlimit before, now;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(lowest);
    bool good = false;
    for (int more = 2; more < 40 && !good; more++) {
        atoll_why why = {""};
        atoll_elf_space *space = new_space(redirects, 2);
        now = before;
        now.rlim_cur = (rlim_t)(lowest + more);
        CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0);
        void *handle = atoll_elf_space_load(space, path, RTLD_NOW, NULL, &why);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        good = handle != NULL;
        CHECK(good || strstr(why.text, "Too many open files") != NULL);
        if (good) {
            CHECK(more > 5 && call(handle, "mod_other") == 101);
        }
        CHECK(is_clean());
        atoll_elf_space_drop_last(space, 0);
        CHECK(atoll_elf_space_free(space, true));
    }
    CHECK(good);
}

static void
files_may_be_limited(void)
{
    struct rlimit before, now;
    CHECK(getrlimit(RLIMIT_FSIZE, &before) == 0);
    const char *path = put_package();
    now = before;
    now.rlim_cur = 10000;
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &now) == 0);
    CHECK(refused(path, "cannot write the copy"));
    CHECK(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(attempt(path, "mod_other", 101));
}

/* Folders for temporary files that are full or cannot be written to, in a
 * process that has mounts of its own. */
static int
with_small_folders(const char *path)
{
    if (unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        return 77;
    }
    /* Room for the folder, and then for nothing else. */
    for (int inodes = 2; inodes < 8; inodes++) {
        char options[32];
        atoll_why why = {""};
        atoll_elf_space *space = new_space(NULL, 0);
        snprintf(options, sizeof(options), "nr_inodes=%d", inodes);
        if (mount("none", box_tmp, "tmpfs", 0, options) < 0) {
            return 77;
        }
        void *handle = atoll_elf_space_load(space, path, RTLD_NOW, NULL, &why);
        CHECK(handle != NULL || strstr(why.text, "No space left") != NULL);
        CHECK(handle == NULL || inodes > 3);
        CHECK(handle != NULL || inodes < 7);
        CHECK(is_clean());
        CHECK(umount(box_tmp) == 0);
        atoll_elf_space_drop_last(space, 0);
        CHECK(atoll_elf_space_free(space, true));
    }
    return tap_complaints != 0;
}

static void
folders_may_be_full(void)
{
    const char *path = put_package();
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        _exit(with_small_folders(path));
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        printf("# not tested: no mounts here\n");
        return;
    }
    CHECK(WEXITSTATUS(status) == 0);
}

/* What TMPDIR says is not always of use. */
static void
folders_may_be_missing(void)
{
    const char *path = put_package();
    char longest[2000];
    memset(longest, 'l', sizeof(longest));
    longest[0] = '/';
    longest[sizeof(longest) - 1] = '\0';
    const char *const values[] = {NULL,           "",      "relative",
                                  "/nonexistent", longest, "/dev/null"};
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        if (values[i] == NULL) {
            unsetenv("TMPDIR");
        }
        else {
            setenv("TMPDIR", values[i], 1);
        }
        CHECK(attempt(path, "mod_other", 101));
        without("memfd_create", ENOSYS, true);
    }
    setenv("TMPDIR", box_tmp, 1);
}

int
main(void)
{
    static const atoll_allocator counted = {counted_alloc, counted_realloc,
                                            counted_free, NULL};
    TAP_BEGIN(100);
    if (!atoll_elf_supported()) {
        printf("1..0 # SKIP no loader that is known\n");
        return 0;
    }
    box_make();
    atoll_set_allocator(&counted);
    RUN(bad_files_are_refused);
    RUN(bad_libraries_are_refused);
    RUN(each_call_fails_once);
    RUN(each_call_fails_once_for_far_libraries);
    RUN(systems_may_lack_something);
    RUN(descriptors_run_out);
    RUN(files_may_be_limited);
    RUN(folders_may_be_full);
    RUN(folders_may_be_missing);
    CHECK(live == 0);
    box_remove();
    TAP_END();
}
