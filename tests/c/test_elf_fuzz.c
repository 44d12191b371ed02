/* Damaged shared objects: 20,000 files with a few bytes changed in what is read
 * of them are opened, planned and copied, and never loaded. Behind each mapped
 * file there is a page that cannot be read. The changes come from a seed: an
 * argument of the program, or a fixed one. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_helper.h"

#include "elf_plan.h"

enum { MUTATIONS = 20000 };

void *__real_mmap64(void *at, size_t size, int access, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int access, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);

static size_t page;

/* Files are mapped between two pages that cannot be read. */
void *
__wrap_mmap64(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
    if (at != NULL || fd < 0 || page == 0) {
        return __real_mmap64(at, size, access, flags, fd, offset);
    }
    size_t whole = (size + page - 1) / page * page;
    uint8_t *room = __real_mmap64(NULL, whole + 2 * page, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) {
        return room;
    }
    return __real_mmap64(room + page, size, access, flags | MAP_FIXED, fd, offset);
}

int
__wrap_munmap(void *at, size_t size)
{
    size_t whole = (size + page - 1) / page * page;
    return __real_munmap((uint8_t *)at - page, whole + 2 * page);
}

/* -------------------------------------------------------------- what is hit */

typedef struct range {
    size_t from, size;
} range;

static range ranges[64];
static size_t range_count;

static void
add_range(const void *from, size_t size, const uint8_t *bytes)
{
    if (size > 0) {
        ranges[range_count++] = (range){(size_t)((const uint8_t *)from - bytes), size};
    }
}

/* The tables of a valid file. */
static void
find_ranges(const uint8_t *bytes)
{
    const Elf64_Ehdr *h = (const void *)bytes;
    const Elf64_Phdr *p = (const void *)(bytes + h->e_phoff);
    const Elf64_Shdr *s = (const void *)(bytes + h->e_shoff);
    range_count = 0;
    add_range(h, sizeof(*h), bytes);
    add_range(p, h->e_phnum * sizeof(*p), bytes);
    for (size_t i = 0; i < h->e_shnum; i++) {
        switch (s[i].sh_type) {
        case SHT_DYNAMIC: /* twice: it is small, and leads to all else */
            add_range(bytes + s[i].sh_offset, s[i].sh_size, bytes);
            add_range(bytes + s[i].sh_offset, s[i].sh_size, bytes);
            break;
        case SHT_STRTAB:
            if ((s[i].sh_flags & SHF_ALLOC) == 0) {
                break;
            }
            __attribute__((fallthrough));
        case SHT_DYNSYM:
        case SHT_GNU_HASH:
        case SHT_HASH:
        case SHT_RELA:
        case SHT_GNU_verneed:
        case SHT_GNU_verdef:
        case SHT_GNU_versym:
            add_range(bytes + s[i].sh_offset, s[i].sh_size, bytes);
            break;
        default:
            break;
        }
    }
}

static uint64_t seed = 20240229;

static uint64_t
random_below(uint64_t limit)
{
    return next_random(&seed) % limit;
}

/* A number that may lead too far. */
static uint64_t
bad_number(size_t size, uint64_t before)
{
    switch (random_below(10)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX - random_below(64);
    case 2:
        return size - random_below(64);
    case 3:
        return size + random_below(4096);
    case 4:
        return UINT64_C(1) << random_below(64);
    case 5:
        return before + random_below(256);
    case 6:
        return before - random_below(256);
    case 7:
        return before ^ (UINT64_C(1) << random_below(64));
    case 8:
        return INT64_MAX - random_below(3);
    default:
        return (uint64_t)next_random(&seed) << 32 | next_random(&seed);
    }
}

static void
mutate(uint8_t *bytes, size_t size)
{
    static const size_t widths[] = {1, 2, 4, 4, 8, 8};
    for (uint64_t n = 1 + random_below(3); n > 0; n--) {
        const range *r = &ranges[random_below(range_count)];
        size_t width = widths[random_below(6)];
        size_t at = r->from + random_below(r->size) / width * width;
        uint64_t value = 0;
        if (at + width <= size) {
            memcpy(&value, bytes + at, width);
            value = bad_number(size, value);
            memcpy(bytes + at, &value, width);
        }
    }
}

/* ----------------------------------------------------------------- the test */

static long opened, planned, copied;

/* All that is done with a file before it is loaded. */
static void
use(const char *path)
{
    static const atoll_elf_rename renames[] = {
        {"libatoll-pyuser.so", "0123456-pyuser.so", 7, false},
        {"libatoll-neighbour.so", "6543210-neighbour.so", 7, false},
        {"libc.so.6", "abcdefg.6", 7, true},
    };
    atoll_why why = {""};
    atoll_elf *elf = atoll_elf_open(path, &why);
    if (elf == NULL) {
        CHECK(why.text[0] != '\0');
        return;
    }
    opened++;
    for (size_t i = 0; i < atoll_elf_needed_count(elf); i++) {
        CHECK(strlen(atoll_elf_needed(elf, i)) < atoll_elf_size(elf));
    }
    CHECK(!atoll_elf_imports(elf, "no such symbol"));
    CHECK(!atoll_elf_imports_prefix(elf, "no such"));
    atoll_elf_copy *copy = atoll_elf_copy_new(elf, "fuzz", renames, 3, &why);
    if (copy != NULL) {
        struct stat st;
        copied++;
        CHECK(fstat(atoll_elf_copy_fd(copy), &st) == 0 &&
              (size_t)st.st_size == atoll_elf_size(elf));
        atoll_elf_copy_free(copy);
    }
    atoll_elf_close(elf);

    elf_plan plan;
    if (elf_plan_make(&plan, path, &why)) {
        planned++;
        CHECK(plan.count > 0 && plan.nodes[0].copied);
        for (size_t i = 0; i < plan.name_count; i++) {
            CHECK(plan.names[i].node < plan.count);
        }
        elf_plan_fini(&plan);
    }
    CHECK(plan.count == 0 && plan.nodes == NULL && plan.names == NULL);
}

static void
fuzz(const char *name, long count)
{
    size_t read, size;
    uint8_t *read_bytes = read_whole(fixture(name), &read);
    /* Whole pages, so that the next byte is the one that cannot be read. */
    size = (read + page - 1) / page * page;
    uint8_t *bytes = calloc(1, size), *good = malloc(size);
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s", in_box("pkg/fuzz.so"));
    put(name, "pkg/fuzz.so");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || bytes == NULL || good == NULL) {
        printf("Bail out! no memory\n");
        exit(99);
    }
    memcpy(bytes, read_bytes, read);
    free(read_bytes);
    memcpy(good, bytes, size);
    find_ranges(good);
    opened = planned = copied = 0;
    use(path);
    CHECK(opened == 1 && planned == 1 && copied == 1);
    for (long i = 0; i < count; i++) {
        mutate(bytes, size);
        size_t length = random_below(50) == 0 ? random_below(size) : size;
        CHECK(pwrite(fd, bytes, size, 0) == (ssize_t)size);
        CHECK(ftruncate(fd, (off_t)length) == 0);
        use(path);
        memcpy(bytes, good, size);
    }
    close(fd);
    printf("# %s: %ld opened, %ld planned, %ld copied\n", name, opened, planned,
           copied);
    CHECK(opened > count / 10 && opened < count);
    free(bytes);
    free(good);
}

static void
damaged_files_do_no_harm(void)
{
    size_t files = open_files();
    put("libatoll-neighbour.so", "pkg.libs/libatoll-neighbour.so");
    put("libatoll-pyuser.so", "pkg.libs/libatoll-pyuser.so");
    fuzz("imports.so", MUTATIONS / 4);
    fuzz("silent.so", MUTATIONS / 4);
    fuzz("sysv.so", MUTATIONS / 4);
    fuzz("mod.so", MUTATIONS / 4);
    CHECK(open_files() == files && is_clean());
}

int
main(int argc, char **argv)
{
    TAP_BEGIN(100);
    if (!atoll_elf_supported()) {
        printf("1..0 # SKIP no loader that is known\n");
        return 0;
    }
    if (argc > 1) {
        seed = strtoull(argv[1], NULL, 10);
    }
    page = (size_t)sysconf(_SC_PAGESIZE);
    box_make();
    RUN(damaged_files_do_no_harm);
    box_remove();
    TAP_END();
}
