/* What the tests of private copies share: a box (a temporary folder) in which
 * packages are put together from fixtures/, and looks at what the process has
 * mapped and open. */
#ifndef ELF_HELPER_H
#define ELF_HELPER_H

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "elf_image.h"
#include "helper.h"

/* The loader guards its memory by a lock that TSan does not see. */
__attribute__((used)) const char *__tsan_default_suppressions(void);

const char *
__tsan_default_suppressions(void)
{
    return "called_from_lib:ld-linux\n";
}

/* ------------------------------------------------------------------ the log */

static char events[4096]; /* guarded by events_lock */
static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;

/* Constructors and destructors of fixtures call this. */
__attribute__((visibility("default"), used)) void fixture_log(const char *what);

void
fixture_log(const char *what)
{
    pthread_mutex_lock(&events_lock);
    size_t used = strlen(events);
    snprintf(events + used, sizeof(events) - used, "%s ", what);
    pthread_mutex_unlock(&events_lock);
}

/* Since the last call, these are the events. */
static inline bool
happened(const char *what)
{
    bool same = strcmp(events, what) == 0;
    if (!same) {
        printf("# events: %s, not: %s\n", events, what);
    }
    events[0] = '\0';
    return same;
}

/* ------------------------------------------------------------------ the box */

static char box[PATH_MAX], box_tmp[PATH_MAX + 8];

/* A path in the box; it lives as long as that. For one thread. */
static char *box_paths[10000];
static size_t box_path_count;

static inline const char *
in_box(const char *name)
{
    char *path;
    if (box_path_count == 10000 || asprintf(&path, "%s/%s", box, name) < 0) {
        printf("Bail out! too many paths\n");
        exit(99);
    }
    return box_paths[box_path_count++] = path;
}

static inline void
make_folder(const char *name)
{
    CHECK(mkdir(in_box(name), 0700) == 0 || errno == EEXIST);
}

static inline int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)ftw;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

static inline void
box_remove(void)
{
    nftw(box, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    while (box_path_count > 0) {
        free(box_paths[--box_path_count]);
    }
}

static inline void
box_make(void)
{
    char made[] = "/tmp/atoll-box-XXXXXX";
    if (mkdtemp(made) == NULL || realpath(made, box) == NULL) {
        printf("Bail out! no temporary folder\n");
        exit(99);
    }
    make_folder("tmp");
    make_folder("pkg");
    make_folder("pkg.libs");
    snprintf(box_tmp, sizeof(box_tmp), "%s/tmp", box);
    setenv("TMPDIR", box_tmp, 1);
}

/* All of a file; its size. For free. */
static inline uint8_t *
read_whole(const char *path, size_t *size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = NULL;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        *size = (size_t)st.st_size;
        bytes = malloc(*size + 1);
    }
    if (bytes == NULL || read(fd, bytes, *size) != (ssize_t)*size) {
        printf("Bail out! cannot read %s\n", path);
        exit(99);
    }
    close(fd);
    return bytes;
}

static inline void
write_whole(const char *path, const void *bytes, size_t size)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    if (fd < 0 || write(fd, bytes, size) != (ssize_t)size) {
        printf("Bail out! cannot write %s\n", path);
        exit(99);
    }
    close(fd);
}

static inline const char *
fixture(const char *name)
{
    static char path[PATH_MAX];
    const char *folder = getenv("ATOLL_FIXTURES");
    snprintf(path, sizeof(path), "%s/%s", folder != NULL ? folder : FIXTURES, name);
    return path;
}

/* Put a fixture into the box; returns its path there. */
static inline const char *
put(const char *name, const char *as)
{
    size_t size;
    uint8_t *bytes = read_whole(fixture(name), &size);
    const char *path = in_box(as);
    write_whole(path, bytes, size);
    free(bytes);
    return path;
}

/* A package with two libraries, one of which uses Python. */
static inline const char *
put_package(void)
{
    put("libatoll-neighbour.so", "pkg.libs/libatoll-neighbour.so");
    put("libatoll-pyuser.so", "pkg.libs/libatoll-pyuser.so");
    return put("mod.so", "pkg/mod.so");
}

static inline size_t
entries_of(const char *path)
{
    size_t count = 0;
    DIR *folder = opendir(path);
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count;
}

/* Is nothing left in the folder for temporary files? */
static inline bool
is_clean(void)
{
    return entries_of(box_tmp) == 2; /* "." and ".." */
}

static inline size_t
open_files(void)
{
    return entries_of("/proc/self/fd");
}

/* ----------------------------------------------------------------- the maps */

typedef struct mapped {
    unsigned long from, to, inode;
    char access[8], path[PATH_MAX];
} mapped;

/* Read the next line of /proc/self/maps. */
static inline bool
next_map(FILE *maps, mapped *m)
{
    char line[PATH_MAX + 200];
    m->path[0] = '\0';
    return fgets(line, sizeof(line), maps) != NULL &&
           sscanf(line, "%lx-%lx %7s %*s %*s %lu %4095[^\n]", &m->from, &m->to,
                  m->access, &m->inode, m->path) >= 4;
}

static inline bool
map_at(const void *address, mapped *m)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    bool found = false;
    while (maps != NULL && !found && next_map(maps, m)) {
        found = m->from <= (uintptr_t)address && (uintptr_t)address < m->to;
    }
    fclose(maps);
    return found;
}

/* How many pieces of files whose path holds `text` are mapped. */
static inline size_t
maps_of(const char *text)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    mapped m;
    size_t count = 0;
    while (maps != NULL && next_map(maps, &m)) {
        count += strstr(m.path, text) != NULL;
    }
    fclose(maps);
    return count;
}

static inline unsigned long
inode_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (unsigned long)st.st_ino : 0;
}

/* Are the bytes there the file's, and not those of a copy? */
static inline bool
is_shared(const void *address, const char *path)
{
    mapped m;
    return map_at(address, &m) && m.inode == inode_of(path);
}

/* Where the loader has put an object. */
static inline uintptr_t
base_of(void *handle)
{
    struct link_map *map = NULL;
    return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map->l_addr : 0;
}

/* How many bytes of the object's read-only segments are not those of the file
 * at `path`. */
static inline size_t
differences(void *handle, const char *path)
{
    size_t size, count = 0;
    uint8_t *bytes = read_whole(path, &size);
    const Elf64_Ehdr *h = (const void *)bytes;
    const Elf64_Phdr *p = (const void *)(bytes + h->e_phoff);
    uintptr_t base = base_of(handle);
    for (size_t i = 0; i < h->e_phnum; i++) {
        const uint8_t *seen = (const uint8_t *)(base + p[i].p_vaddr);
        if (p[i].p_type != PT_LOAD || (p[i].p_flags & PF_W) != 0) {
            continue;
        }
        for (size_t k = 0; k < p[i].p_filesz; k++) {
            count += seen[k] != bytes[p[i].p_offset + k];
        }
    }
    free(bytes);
    return count;
}

/* -------------------------------------------------------------------- calls */

static inline void *
symbol(void *handle, const char *name)
{
    void *found = dlsym(handle, name);
    if (found == NULL) {
        printf("Bail out! no %s: %s\n", name, dlerror());
        exit(99);
    }
    return found;
}

/* Call a function without arguments that returns an int. */
static inline int
call(void *handle, const char *name)
{
    int (*function)(void);
    void *found = symbol(handle, name);
    memcpy(&function, &found, sizeof(function));
    return function();
}

/* The same for one that returns an address. */
static inline void *
call_for(void *handle, const char *name)
{
    void *(*function)(void);
    void *found = symbol(handle, name);
    memcpy(&function, &found, sizeof(function));
    return function();
}

static inline atoll_elf_space *
new_space(const atoll_elf_redirect *redirects, size_t count)
{
    atoll_elf_space *space = atoll_elf_space_new(redirects, count);
    if (space == NULL) {
        printf("Bail out! no space\n");
        exit(99);
    }
    return space;
}

/* Load what must be loadable. */
static inline void *
load(atoll_elf_space *space, const char *path)
{
    atoll_why why = {""};
    void *handle = atoll_elf_space_load(space, path, RTLD_NOW, NULL, &why);
    if (handle == NULL) {
        printf("# %s: %s\n", path, why.text);
        printf("Bail out! cannot load\n");
        exit(99);
    }
    return handle;
}

/* Load what must not be; the reason has one of these texts in it. */
static inline bool
refused_for(const char *path, const char *reason, const char *other)
{
    atoll_why why = {""};
    atoll_elf_space *space = new_space(NULL, 0);
    size_t files = open_files();
    bool fresh = true;
    void *handle = atoll_elf_space_load(space, path, RTLD_NOW, &fresh, &why);
    bool good = handle == NULL && !fresh &&
                (strstr(why.text, reason) != NULL || strstr(why.text, other) != NULL) &&
                atoll_elf_space_count(space) == 0 && is_clean() &&
                open_files() == files;
    if (!good) {
        printf("# %s: %p, %s\n", path, handle, why.text);
    }
    CHECK(strstr(why.text, box_tmp) == NULL);
    return atoll_elf_space_free(space, true) && good;
}

static inline bool
refused(const char *path, const char *reason)
{
    return refused_for(path, reason, reason);
}

#endif
