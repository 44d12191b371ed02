/* Private copies of shared objects: what is private, what is shared, what is
 * redirected, and what is left when they go. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_helper.h"

#include <sys/auxv.h>

/* ----------------------------------------------------------------- one file */

static void
spaces_have_data_of_their_own(void)
{
    const char *path = put("plain.so", "plain.so");
    atoll_elf_space *a = new_space(NULL, 0), *b = new_space(NULL, 0);
    void *one = load(a, path), *two = load(b, path);
    CHECK(happened("+plain +plain "));
    CHECK(one != two);
    CHECK(call(one, "plain_bump") == 101 && call(one, "plain_bump") == 102);
    CHECK(call(two, "plain_bump") == 101);
    CHECK(call(one, "plain_python") == 0);

    /* A space loads a file once, under whatever name. */
    CHECK(load(a, path) == one);
    CHECK(symlink(path, in_box("link.so")) == 0);
    CHECK(load(a, in_box("link.so")) == one);
    CHECK(atoll_elf_space_count(a) == 1 && happened(""));

    /* It is not the original, and that is not one of ours. */
    void *original = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(original != NULL && original != one && original != two);
    CHECK(call(original, "plain_bump") == 101);
    CHECK(is_shared(symbol(original, "plain_bump"), path));
    dlclose(original); /* it has a unique symbol, so that it stays */
    CHECK(happened("+plain "));

    CHECK(call(one, "plain_bump") == 103);
    CHECK(atoll_elf_space_free(a, true) && happened("-plain "));
    CHECK(call(two, "plain_bump") == 102);
    CHECK(atoll_elf_space_free(b, true) && happened("-plain "));
    CHECK(maps_of("memfd:plain.so") == 0 && is_clean());
}

/* Call name_what(). */
static void *
ask(void *handle, const char *name, const char *what)
{
    char function[64];
    snprintf(function, sizeof(function), "%s_%s", name, what);
    return call_for(handle, function);
}

/* In memory the copy is the original but for `changed` bytes, and its pages
 * are, if they can be. */
static void
check_pages(const char *file, const char *name, size_t changed, bool shares)
{
    char as[64];
    snprintf(as, sizeof(as), "pages-%s", file);
    const char *path = put(file, as);
    atoll_elf_space *space = new_space(NULL, 0);
    void *handle = load(space, path);
    size_t count = differences(handle, path);
    if (!CHECK(count == changed)) {
        printf("# %s: %zu bytes\n", file, count);
    }
    const char *text = ask(handle, name, "text");
    const unsigned *table = ask(handle, name, "table");
    if (sysconf(_SC_PAGESIZE) == 4096) {
        CHECK(is_shared(text + 8192, path) == shares);
        CHECK(is_shared(table + 2048, path) == shares);
    }
    mapped m;
    CHECK(map_at(text + 8192, &m) && strcmp(m.access, "r-xp") == 0);
    CHECK(table[0] == 0x12345678 && table[512] == 1 && table[2048] == 4);
    CHECK(!is_shared(ask(handle, name, "once"), path));
    CHECK(atoll_elf_space_free(space, true));
    CHECK(maps_of(as) == 0);
}

static void
pages_are_the_original_s(void)
{
    /* One byte: the kind of the unique symbol. */
    check_pages("plain.so", "plain", 1, true);
    check_pages("sysv.so", "sysv", 1, true);
    check_pages("packed.so", "packed", 1, true);
    /* And seven of what it calls itself. */
    check_pages("odd.so", "odd", 8, true);
}

/* Pages in which the loader has written stay the copy's. */
static void
text_relocations_stay(void)
{
    const char *path = put("written.so", "written.so");
    atoll_elf_space *space = new_space(NULL, 0);
    void *handle = load(space, path);
    void *const *word = call_for(handle, "written_text");
    CHECK(*word == call_for(handle, "written_once"));
    CHECK(!is_shared(call_for(handle, "written_table"), path));
    CHECK(atoll_elf_space_free(space, true));
}

/* Give `path` one more segment, which shows a page of the first one, too: some
 * linkers let two segments have a page of the file in common. */
static void
add_overlap(const char *path)
{
    size_t size;
    uint8_t *bytes = read_whole(path, &size);
    Elf64_Ehdr *h = (void *)bytes;
    Elf64_Phdr *p = (void *)(bytes + h->e_phoff), *last = NULL, *spare = NULL;
    for (size_t i = 0; i < h->e_phnum; i++) {
        last = p[i].p_type == PT_LOAD ? &p[i] : last;
        spare = p[i].p_type == PT_GNU_EH_FRAME ? &p[i] : spare;
    }
    CHECK(last != NULL && spare > last);
    *spare =
        (Elf64_Phdr){.p_type = PT_LOAD,
                     .p_flags = PF_R,
                     .p_filesz = 100,
                     .p_memsz = 100,
                     .p_offset = 0x3000,
                     .p_vaddr = ((last->p_vaddr + last->p_memsz) | 0xffff) + 0x3001,
                     .p_align = last->p_align};
    write_whole(path, bytes, size);
    free(bytes);
}

static void
segments_may_overlap_in_the_file(void)
{
    const char *path = put("packed.so", "overlap.so");
    add_overlap(path);
    atoll_elf_space *space = new_space(NULL, 0);
    void *handle = load(space, path);
    CHECK(differences(handle, path) == 1);
    CHECK(call(handle, "packed_bump") == 101);
    CHECK(atoll_elf_space_free(space, true));
}

/* ----------------------------------------------------------- unique symbols */

static void
unique_symbols_are_not_merged(void)
{
    const char *path = put("plain.so", "plain.so");
    atoll_elf_space *a = new_space(NULL, 0), *b = new_space(NULL, 0);
    void *one = load(a, path), *two = load(b, path);
    CHECK(call_for(one, "plain_once") != call_for(two, "plain_once"));
    CHECK(call_for(one, "plain_once") == symbol(one, "plain_the_one"));
    CHECK(atoll_elf_space_free(a, true) && atoll_elf_space_free(b, true));

    /* Without the copy's change they are. */
    one = dlopen(put("sysv.so", "once1.so"), RTLD_NOW | RTLD_LOCAL);
    two = dlopen(put("sysv.so", "once2.so"), RTLD_NOW | RTLD_LOCAL);
    CHECK(one != NULL && two != NULL && one != two);
    CHECK(call_for(one, "sysv_once") == call_for(two, "sysv_once"));
    CHECK(call_for(one, "sysv_table") != call_for(two, "sysv_table"));
}

/* ----------------------------------------------------------------- packages */

static void
libraries_are_copied_or_shared(void)
{
    const char *path = put_package();
    const char *library = in_box("pkg.libs/libatoll-pyuser.so");
    const char *shared = in_box("pkg.libs/libatoll-neighbour.so");
    atoll_elf_space *a = new_space(NULL, 0), *b = new_space(NULL, 0);
    events[0] = '\0';
    void *one = load(a, path), *two = load(b, path);
    CHECK(happened("+neighbour +pyuser +mod +pyuser +mod "));
    CHECK(atoll_elf_space_count(a) == 2 && is_clean());
    /* The library that uses Python is private, with its version and all. */
    CHECK(call(one, "mod_bump") == 101 && call(one, "mod_other") == 101);
    CHECK(call(one, "mod_other") == 102 && call(two, "mod_other") == 101);
    /* That which does not is the process's. */
    CHECK(call(one, "pyuser_other") == 101 && call(two, "pyuser_other") == 102);
    CHECK(symbol(one, "neighbour_bump") == symbol(two, "neighbour_bump"));
    CHECK(symbol(one, "pyuser_bump") != symbol(two, "pyuser_bump"));
    CHECK(symbol(one, "pyuser_the_one") != symbol(two, "pyuser_the_one"));
    CHECK(is_shared(symbol(one, "neighbour_bump"), shared));

    /* What people see are the originals' paths: of copies in a spelling that
     * the loader does not take for them. */
    Dl_info info;
    char odd[2 * PATH_MAX];
    CHECK(dladdr(symbol(one, "neighbour_bump"), &info) != 0);
    CHECK(strcmp(info.dli_fname, shared) == 0);
    CHECK(dladdr(symbol(one, "pyuser_bump"), &info) != 0);
    snprintf(odd, sizeof(odd), "%s/pkg.libs/./libatoll-pyuser.so", box);
    CHECK(strcmp(info.dli_fname, odd) == 0);
    CHECK(dladdr(symbol(two, "mod_bump"), &info) != 0);
    snprintf(odd, sizeof(odd), "%s/pkg/./mod.so", box);
    CHECK(strcmp(info.dli_fname, odd) == 0);

    /* The library is found by its file, too. */
    CHECK(call(load(a, library), "pyuser_bump") == 103);
    /* Originals are still to be had, alone and as a group. */
    void *original = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    CHECK(call(original, "pyuser_bump") == 101);
    void *whole = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(whole != one && call(whole, "mod_other") == 102);
    CHECK(call(whole, "pyuser_other") == 103);
    dlclose(whole);
    dlclose(original);

    /* A group stays when its space goes, unless it is dropped. */
    CHECK(happened("+pyuser +mod -mod -pyuser "));
    atoll_elf_space_drop_last(a, 1);
    CHECK(atoll_elf_space_count(a) == 1 && happened("-mod "));
    atoll_elf_space_drop_last(a, 0);
    CHECK(atoll_elf_space_count(a) == 0 && happened("-pyuser "));
    CHECK(atoll_elf_space_free(a, true));
    CHECK(!atoll_elf_space_free(b, true) && happened(""));
    CHECK(call(two, "mod_other") == 102);
    CHECK(dladdr(symbol(two, "mod_bump"), &info) != 0);
    CHECK(strcmp(info.dli_fname, odd) == 0);
    CHECK(maps_of("memfd:mod.so") > 0);
}

/* A second module of a space gets the library that is there. */
static void
libraries_are_copied_once(void)
{
    const char *path = put_package(), *other = put("mod_rpath.so", "pkg/other.so");
    atoll_elf_space *space = new_space(NULL, 0);
    void *one = load(space, path), *two = load(space, other);
    CHECK(atoll_elf_space_count(space) == 3 && is_clean());
    CHECK(call(one, "mod_other") == 101 && call(two, "mod_other") == 102);
    CHECK(call(one, "mod_bump") == 101 && call(two, "mod_bump") == 101);
    CHECK(symbol(one, "pyuser_bump") == symbol(two, "pyuser_bump"));
    atoll_elf_space_drop_last(space, 0);
    CHECK(maps_of("memfd:other.so") == 0);
    CHECK(atoll_elf_space_free(space, true));
}

/* A module all of whose libraries are shared can be unloaded. */
static void
a_module_with_shared_libraries_goes(void)
{
    put_package();
    const char *path = put("mod_shared.so", "pkg/shares.so");
    atoll_elf_space *space = new_space(NULL, 0);
    events[0] = '\0';
    CHECK(call(load(space, path), "mod_other") >= 101);
    CHECK(atoll_elf_space_free(space, true));
    CHECK(strstr(events, "-mod ") != NULL);
    CHECK(maps_of("shares.so") == 0);
}

/* Two names of one file, which both are links. */
static void
check_alias(const char *real, bool copied)
{
    put(real, "pkg.libs/real.so");
    const char *const links[] = {"pkg.libs/libatoll-one.so",
                                 "pkg.libs/libatoll-second.so"};
    for (size_t i = 0; i < 2; i++) {
        unlink(in_box(links[i]));
        CHECK(symlink("real.so", in_box(links[i])) == 0);
    }
    const char *path = put("mod_alias.so", "pkg/alias.so");
    atoll_elf_space *a = new_space(NULL, 0), *b = new_space(NULL, 0);
    void *one = load(a, path), *two = load(b, path);
    CHECK(atoll_elf_space_count(a) == (copied ? 2 : 1));
    CHECK(call(one, "mod_other") == 101 && call(one, "mod_another") == 102);
    CHECK(call(two, "mod_other") == (copied ? 101 : 103));
    CHECK(call(two, "mod_another") == (copied ? 102 : 104));
    CHECK(is_clean());
    /* Once more, when it is there already. */
    void *more = load(a, put("mod_alias.so", "pkg/more.so"));
    CHECK(atoll_elf_space_count(a) == (copied ? 3 : 2));
    CHECK(call(more, "mod_other") == (copied ? 103 : 105));
    atoll_elf_space_drop_last(a, 0);
    atoll_elf_space_drop_last(b, 0);
    CHECK(atoll_elf_space_free(a, true) && atoll_elf_space_free(b, true));
    CHECK(maps_of("real.so") == 0);
}

static void
libraries_may_have_two_names(void)
{
    check_alias("alias-shared.so", false);
    check_alias("alias-copied.so", true);
}

/* Folders that are links: ".." leads out of where they lead to. */
static void
folders_may_be_links(void)
{
    make_folder("far");
    make_folder("far/store");
    make_folder("far/more.libs");
    put("libatoll-neighbour.so", "far/more.libs/libatoll-neighbour.so");
    put("libatoll-pyuser.so", "far/store/libatoll-pyuser.so");
    make_folder("linked");
    CHECK(symlink(in_box("far/store"), in_box("pkg3.libs")) == 0);
    CHECK(rename(in_box("pkg.libs"), in_box("pkg.away")) == 0);
    CHECK(symlink("pkg3.libs", in_box("pkg.libs")) == 0);
    atoll_elf_space *space = new_space(NULL, 0);
    void *handle = load(space, put("mod.so", "linked/mod.so"));
    CHECK(call(handle, "mod_other") == 101);
    CHECK(atoll_elf_space_count(space) == 2 && is_clean());
    CHECK(is_shared(symbol(handle, "neighbour_bump"),
                    in_box("far/more.libs/libatoll-neighbour.so")));
    atoll_elf_space_drop_last(space, 0);
    CHECK(atoll_elf_space_free(space, true));
    CHECK(unlink(in_box("pkg.libs")) == 0);
    CHECK(rename(in_box("pkg.away"), in_box("pkg.libs")) == 0);
}

/* A library that is found by an absolute path is loaded before. What it needs
 * is found by its own place. */
static void
libraries_may_be_far(void)
{
    make_folder("away");
    make_folder("more.libs");
    put("libatoll-neighbour.so", "more.libs/libatoll-neighbour.so");
    put("libatoll-pyuser.so", "away/libatoll-pyuser.so");
    const char *path = put("mod_bare.so", "pkg/bare.so");
    CHECK(setenv("LD_LIBRARY_PATH", in_box("away"), 1) == 0);
    size_t copies = maps_of("memfd:libatoll-pyuser.so");
    atoll_elf_space *a = new_space(NULL, 0), *b = new_space(NULL, 0);
    void *one = load(a, path), *two = load(b, path);
    CHECK(atoll_elf_space_count(a) == 2 && is_clean());
    CHECK(call(one, "mod_other") == 101 && call(two, "mod_other") == 101);
    CHECK(maps_of("memfd:libatoll-pyuser.so") > copies);
    atoll_elf_space_drop_last(a, 0);
    atoll_elf_space_drop_last(b, 0);
    CHECK(maps_of("memfd:libatoll-pyuser.so") == copies);
    CHECK(atoll_elf_space_free(a, true) && atoll_elf_space_free(b, true));
    CHECK(unsetenv("LD_LIBRARY_PATH") == 0);
}

/* -------------------------------------------------------------- odd objects */

/* The loader keeps what is marked so: then the copy is not gone. */
static void
what_cannot_be_unmapped_stays(void)
{
    const char *path = put("stays.so", "stays.so");
    atoll_elf_space *space = new_space(NULL, 0);
    void *handle = load(space, path);
    int (*bump)(void);
    void *found = symbol(handle, "stays_bump");
    memcpy(&bump, &found, sizeof(bump));
    CHECK(!atoll_elf_space_free(space, true));
    CHECK(bump() == 101 && maps_of("stays.so") > 0);
    void *original = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(original != NULL && symbol(original, "stays_bump") != found);
}

/* What an object calls itself must not stand for something else. */
static void
nobody_is_given_a_copy_by_its_name(void)
{
    atoll_elf_space *space = new_space(NULL, 0);
    void *handle = load(space, put("odd.so", "odd.so"));
    CHECK(handle != NULL);
    CHECK(dlopen("libatoll-odd.so.1", RTLD_NOW | RTLD_NOLOAD) == NULL);
    CHECK(atoll_elf_space_free(space, true));
}

static char seen_name[64];

static char *
our_getenv(const char *name)
{
    snprintf(seen_name, sizeof(seen_name), "%s", name);
    return seen_name;
}

static int created, keys;

static int
our_create(void *thread, void *attributes, void *run, void *arg)
{
    (void)thread, (void)attributes, (void)run, (void)arg;
    created++;
    return 77;
}

static int
our_key(void *key, void *destructor)
{
    (void)key, (void)destructor;
    keys++;
    return 78;
}

#define FUNCTION(f) ((void *)(uintptr_t)(f))

static atoll_elf_redirect our_functions[] = {
    {"getenv", FUNCTION(our_getenv)},
    {"pthread_create", FUNCTION(our_create)},
    {"pthread_key_create", FUNCTION(our_key)},
    {"no_such_function", NULL},
};

static void
exports_may_be_none(void)
{
    atoll_why why;
    const char *path = put("silent.so", "silent.so");
    atoll_elf *elf = atoll_elf_open(path, &why);
    CHECK(elf != NULL && atoll_elf_imports(elf, "getenv"));
    CHECK(atoll_elf_imports_prefix(elf, "fixture_"));
    CHECK(!atoll_elf_imports(elf, "getenv2") && !atoll_elf_imports(elf, "get"));
    CHECK(atoll_elf_size(elf) > 1000);
    CHECK(atoll_elf_inode(elf) == inode_of(path));
    atoll_elf_close(elf);
    events[0] = '\0';
    atoll_elf_space *space = new_space(our_functions, 4);
    /* Its constructor runs when its imports lead to our functions already. */
    CHECK(load(space, path) != NULL && happened("+silent set "));
    CHECK(atoll_elf_space_free(space, true));
}

/* An inode is given to another file when nothing holds it. */
static void
files_are_not_mistaken_for_older_ones(void)
{
    atoll_elf_space *space = new_space(NULL, 0);
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof(name), "small%d.so", i);
        const char *path = put(i % 2 ? "imports.so" : "silent.so", name);
        void *handle = load(space, path);
        CHECK((dlsym(handle, "call_key") != NULL) == (i % 2 != 0));
        CHECK(unlink(path) == 0);
    }
    CHECK(atoll_elf_space_count(space) == 4);
    CHECK(atoll_elf_space_free(space, true));
}

static void
paths_may_be_odd(void)
{
    char name[NAME_MAX + 1], path[PATH_MAX];
    const char *const odd[] = {"with space.so", "$ORIGINAL%s.so", "a", ":;.so",
                               "\xc3\xa4\n.so"};
    for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
        atoll_elf_space *space = new_space(NULL, 0);
        void *handle = load(space, put("plain.so", odd[i]));
        CHECK(call(handle, "plain_bump") == 101);
        CHECK(atoll_elf_space_free(space, true) && is_clean());
    }
    /* As long as a name can be. */
    memset(name, 'n', NAME_MAX);
    memcpy(name + NAME_MAX - 3, ".so", 4);
    atoll_elf_space *space = new_space(NULL, 0);
    CHECK(load(space, put("plain.so", name)) != NULL);
    CHECK(atoll_elf_space_free(space, true) && is_clean());
    /* As deep as a path can be. */
    strcpy(path, "deep");
    for (char *end = path; strlen(box) + strlen(path) < PATH_MAX - 220;) {
        make_folder(path);
        end = path + strlen(path);
        memset(end, 'd', 200);
        strcpy(end, "/");
        memset(end + 1, 'd', 150);
        end[151] = '\0';
    }
    make_folder(path);
    strcat(path, "/x.so");
    space = new_space(NULL, 0);
    CHECK(load(space, put("plain.so", path)) != NULL);
    CHECK(atoll_elf_space_free(space, true) && is_clean());
}

/* --------------------------------------------------------------- redirects */

static void
check_imports(const char *file)
{
    const char *path = put(file, file);
    atoll_elf_space *space = new_space(our_functions, 4);
    void *handle = load(space, path);
    mapped m;
    CHECK(call_for(handle, "take_getenv") == FUNCTION(our_getenv));
    CHECK(call_for(handle, "data_getenv") == FUNCTION(our_getenv));
    CHECK(call_for(handle, "relro_getenv") == FUNCTION(our_getenv));
    CHECK(call_for(handle, "packed_getenv") == FUNCTION(our_getenv));
    void *found = symbol(handle, "call_getenv");
    char *(*get)(const char *);
    memcpy(&get, &found, sizeof(get));
    CHECK(get("HOME") == seen_name && strcmp(seen_name, "HOME") == 0);
    CHECK(call(handle, "call_create") == 77 && created == 1);
    CHECK(call(handle, "call_key") == 78 && keys == 1);
    /* What was read-only is so again. */
    CHECK(map_at(call_for(handle, "relro_word"), &m));
    CHECK((strcmp(m.access, "r--p") == 0) == (strcmp(file, "imports.so") == 0));
    created = keys = 0;
    /* The original is not touched. */
    void *original = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CHECK(call(original, "call_create") == 0 && created == 0);
    CHECK(call_for(original, "data_getenv") != FUNCTION(our_getenv));
    dlclose(original);
    CHECK(atoll_elf_space_free(space, true));
}

static void
imports_are_redirected(void)
{
    check_imports("imports.so");
    check_imports("imports_lazy.so");
}

/* Its arguments, in their order. */
static long got[6];

static long
note_arguments(long a, long b, long c, long d, long e)
{
    got[0] = a, got[1] = b, got[2] = c, got[3] = d, got[4] = e;
    return 4711;
}

/* Let indirect calls of that code lead only to where it says so, if the
 * processor can: then the call would fail if it did not. */
static void
guard(void *code)
{
#if defined(__aarch64__)
    if ((getauxval(AT_HWCAP2) & (1ul << 17)) != 0) { /* HWCAP2_BTI */
        CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC | 0x10) == 0);
        printf("# with branch target identification\n");
    }
#else
    (void)code;
#endif
}

static void
thunks_add_an_argument(void)
{
    atoll_why why;
    void *targets[200];
    uint8_t places[200];
    for (size_t i = 0; i < 200; i++) { /* more than a page */
        targets[i] = FUNCTION(note_arguments);
        places[i] = (uint8_t)(i % 5);
    }
    long context = (long)0x123456789abcdef0;
    atoll_thunks *thunks =
        atoll_thunks_new((void *)context, targets, places, 200, &why);
    CHECK(thunks != NULL);
    guard(atoll_thunks_get(thunks, 0));
    for (size_t i = 0; thunks != NULL && i < 200; i++) {
        long (*thunk)(long, long, long, long, long);
        void *code = atoll_thunks_get(thunks, i);
        mapped m;
        memcpy(&thunk, &code, sizeof(thunk));
        memset(got, 0, sizeof(got));
        CHECK(thunk(11, -22, 33, -44, 55) == 4711);
        for (size_t k = 0; k < 5; k++) {
            static const long given[] = {11, -22, 33, -44, 55};
            CHECK(got[k] == (k == i % 5 ? context : given[k]));
        }
        CHECK(i % 100 != 0 || (map_at(code, &m) && strcmp(m.access, "r-xp") == 0));
    }
    atoll_thunks_free(thunks);
    atoll_thunks_free(NULL);
    thunks = atoll_thunks_new(NULL, NULL, NULL, 0, &why);
    CHECK(thunks != NULL);
    atoll_thunks_free(thunks);
}

/* ----------------------------------------------------------- visits, cycles */

static void
count_visit(void *handle, void *arg)
{
    CHECK(dlsym(handle, "mod_bump") != NULL || dlsym(handle, "pyuser_bump") != NULL);
    ++*(int *)arg;
}

static void
each_is_visited(void)
{
    atoll_elf_space *space = new_space(NULL, 0);
    int visits = 0;
    load(space, put_package());
    atoll_elf_space_each(space, count_visit, &visits);
    CHECK(visits == 2 && atoll_elf_space_keeps(space, NULL));
    CHECK(!atoll_elf_space_keeps(space, our_functions));
    atoll_elf_space_drop_last(space, 0);
    CHECK(atoll_elf_space_free(space, true));
}

static void
nothing_is_left_after_many(void)
{
    const char *path = put("plain.so", "many.so");
    size_t files = 0, maps = 0;
    for (int i = 0; i < 300; i++) {
        if (i == 2) { /* what the C library keeps is there now */
            files = open_files();
            maps = maps_of("");
        }
        atoll_elf_space *space = new_space(our_functions, 4);
        CHECK(call(load(space, path), "plain_bump") == 101);
        CHECK(atoll_elf_space_free(space, true));
        events[0] = '\0';
    }
    CHECK(open_files() == files && is_clean());
    CHECK(maps_of("") <= maps + 8); /* the heap may have grown */
    CHECK(maps_of("many.so") == 0);
}

static void *
load_and_free(void *arg)
{
    for (int i = 0; i < 20; i++) {
        atoll_elf_space *space = new_space(our_functions, 4);
        void *handle = load(space, arg);
        CHECK(call(handle, "mod_other") == 101);
        CHECK(call(handle, "pyuser_other") > 100);
        atoll_elf_space_drop_last(space, 0);
        CHECK(atoll_elf_space_free(space, true));
        pthread_mutex_lock(&events_lock);
        events[0] = '\0';
        pthread_mutex_unlock(&events_lock);
    }
    return NULL;
}

static void
threads_load_at_once(void)
{
    char path[PATH_MAX + 300];
    strcpy(path, put_package());
    pthread_t one = start(load_and_free, path);
    pthread_t two = start(load_and_free, path);
    join(one);
    join(two);
    CHECK(is_clean());
}

int
main(void)
{
    TAP_BEGIN(100);
    if (!atoll_elf_supported()) {
        printf("1..0 # SKIP no loader that is known\n");
        return 0;
    }
    box_make();
    RUN(spaces_have_data_of_their_own);
    RUN(pages_are_the_original_s);
    RUN(text_relocations_stay);
    RUN(segments_may_overlap_in_the_file);
    RUN(unique_symbols_are_not_merged);
    RUN(folders_may_be_links); /* before a neighbour of that name is there */
    RUN(libraries_are_copied_or_shared);
    RUN(libraries_are_copied_once);
    RUN(a_module_with_shared_libraries_goes);
    RUN(libraries_may_have_two_names);
    RUN(libraries_may_be_far);
    RUN(what_cannot_be_unmapped_stays);
    RUN(nobody_is_given_a_copy_by_its_name);
    RUN(exports_may_be_none);
    RUN(files_are_not_mistaken_for_older_ones);
    RUN(paths_may_be_odd);
    RUN(imports_are_redirected);
    RUN(thunks_add_an_argument);
    RUN(each_is_visited);
    RUN(nothing_is_left_after_many);
    RUN(threads_load_at_once);
    box_remove();
    TAP_END();
}
