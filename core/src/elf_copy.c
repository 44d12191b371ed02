/* Copies of ELF files with other names in them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "elf_stage.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U /* Linux 6.3 */
#endif

/* --------------------------------------------------------------------- file */

/* A file without a name: nobody else can open or predict it. Memory files also
 * work where the folders for temporary files are full or not to be executed. */
static int
nameless_file(const char *label)
{
    char name[200]; /* the system refuses names of 250 bytes and more */
    snprintf(name, sizeof(name), "%s", label);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) {
        fd = memfd_create(name, MFD_CLOEXEC); /* an older kernel */
    }
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES)) {
        return fd;
    }
    const char *folder;
    for (size_t i = 0; fd < 0 && elf_temporary_folder(i, ELF_DATA, &folder); i++) {
        fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    }
    return fd;
}

static bool
copy_write_all(int fd, const uint8_t *bytes, size_t size, off_t offset)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, bytes, size, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return false;
        }
        bytes += n;
        size -= (size_t)n;
        offset += n;
    }
    return true;
}

/* Change `size` bytes at file offset `offset` of the copy. */
static bool
copy_edit(atoll_elf_copy *copy, uint64_t offset, const void *bytes, size_t size)
{
    for (uint64_t at = offset / copy->page; at <= (offset + size - 1) / copy->page;
         at++) {
        copy->changed[at / 8] |= (uint8_t)(1u << (at % 8));
    }
    return copy_write_all(copy->fd, bytes, size, (off_t)offset);
}

/* ------------------------------------------------------------------ symbols */

static bool
unmerge_symbols(atoll_elf_copy *copy)
{
    const atoll_elf *elf = copy->elf;
    for (size_t i = 0; i < elf->symbol_count; i++) {
        const Elf64_Sym *s = &elf->symbols[i];
        if (ELF64_ST_BIND(s->st_info) == STB_GNU_UNIQUE) {
            uint8_t info =
                (uint8_t)ELF64_ST_INFO(STB_GLOBAL, ELF64_ST_TYPE(s->st_info));
            uint64_t at = (uint64_t)((const uint8_t *)&s->st_info - elf->bytes);
            if (!copy_edit(copy, at, &info, 1)) {
                return false;
            }
        }
    }
    return true;
}

/* ------------------------------------------------------------- constructors */

/* A tag that no loader knows: of the range for operating systems. */
#define DT_NOTHING (DT_LOOS + 0xa7011)

/* Hide the constructors from the loader. They are run once the imports lead
 * where they should: allocators make thread-local keys and threads in them.
 * Destructors are hidden until then: a load that fails must not run them. */
static bool
hide_constructors(atoll_elf_copy *copy)
{
    const atoll_elf *elf = copy->elf;
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        Elf64_Dyn d = elf->dynamic[i];
        if (d.d_tag == DT_INIT) {
            d.d_tag = DT_NOTHING;
        }
        else if (d.d_tag == DT_INIT_ARRAYSZ ||
                 (d.d_tag == DT_FINI_ARRAYSZ &&
                  elf_is_writable(elf, elf->dynamic_address + i * sizeof(d)))) {
            d.d_un.d_val = 0;
        }
        else {
            continue;
        }
        uint64_t at = (uint64_t)((const uint8_t *)&elf->dynamic[i] - elf->bytes);
        if (!copy_edit(copy, at, &d, sizeof(d))) {
            return false;
        }
    }
    return true;
}

/* -------------------------------------------------------------------- names */

/* Linkers let a string be the end of another one, so bytes may belong to two
 * names. Are those of this name its own? */
static bool
is_alone(const atoll_elf *elf, uint64_t offset, size_t changed)
{
    if (offset > 0 && elf->strings[offset - 1] != '\0') {
        return false;
    }
    for (size_t i = 0; i < elf->symbol_count; i++) {
        uint64_t name = elf->symbols[i].st_name;
        if (name >= offset && name < offset + changed) {
            return false;
        }
    }
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        int64_t tag = elf->dynamic[i].d_tag;
        uint64_t name = elf->dynamic[i].d_un.d_val;
        bool is_name = tag == DT_NEEDED || tag == DT_SONAME || tag == DT_RUNPATH ||
                       tag == DT_RPATH || tag == DT_FILTER || tag == DT_AUXILIARY;
        if (is_name && name > offset && name < offset + changed) {
            return false;
        }
    }
    return true;
}

/* Replace the string at `offset` if it is one of `renames`. `own`: it is the
 * object's own name. */
static bool
rename_string(atoll_elf_copy *copy, uint64_t offset, bool own,
              const atoll_elf_rename *renames, size_t count, atoll_why *why)
{
    const atoll_elf *elf = copy->elf;
    const char *string = elf_string(elf, offset);
    if (string == NULL) {
        return atoll_because(why, "damaged: a name");
    }
    for (size_t i = 0; i < count; i++) {
        const atoll_elf_rename *r = &renames[i];
        if (strcmp(string, r->from) != 0 || (r->own && !own)) {
            continue;
        }
        if (!is_alone(elf, offset, r->changed)) {
            if (own) {
                return true; /* who needs it will not find it, and says so */
            }
            return atoll_because(why, "the name %s is part of another one", r->from);
        }
        if (!copy_edit(copy, (uint64_t)((const uint8_t *)string - elf->bytes), r->to,
                       r->changed)) {
            return atoll_because(why, "cannot write the copy: %s", strerror(errno));
        }
        return true;
    }
    return true;
}

static bool
rename_versions(atoll_elf_copy *copy, const atoll_elf_rename *renames, size_t count,
                atoll_why *why)
{
    const atoll_elf *elf = copy->elf;
    uint64_t at = elf->verneed;
    for (size_t i = 0; i < elf->verneed_count; i++) {
        Elf64_Verneed v;
        if (at > elf->size - sizeof(v)) {
            return atoll_because(why, "damaged: its versions");
        }
        memcpy(&v, elf->bytes + at, sizeof(v));
        if (!rename_string(copy, v.vn_file, false, renames, count, why)) {
            return false;
        }
        if (v.vn_next == 0) {
            break;
        }
        at += v.vn_next;
    }
    return true;
}

static bool
rename_all(atoll_elf_copy *copy, const atoll_elf_rename *renames, size_t count,
           atoll_why *why)
{
    const atoll_elf *elf = copy->elf;
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        int64_t tag = elf->dynamic[i].d_tag;
        if ((tag == DT_NEEDED || tag == DT_SONAME) &&
            !rename_string(copy, elf->dynamic[i].d_un.d_val, tag == DT_SONAME, renames,
                           count, why)) {
            return false;
        }
    }
    return rename_versions(copy, renames, count, why);
}

/* ------------------------------------------------------------- what is left out */

bool
elf_has_text_relocations(const atoll_elf *elf)
{
    uint64_t flags;
    return elf_dynamic(elf, DT_TEXTREL, 0, &flags) ||
           (elf_dynamic(elf, DT_FLAGS, 0, &flags) && (flags & DF_TEXTREL) != 0);
}

/* Does the loader call functions of the object when it relocates? */
static bool
runs_early(const atoll_elf *elf)
{
    for (size_t i = 0; i < elf->symbol_count; i++) {
        if (ELF64_ST_TYPE(elf->symbols[i].st_info) == STT_GNU_IFUNC) {
            return true;
        }
    }
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; i < elf->reloc_count[which]; i++) {
            uint64_t type = ELF64_R_TYPE(elf->relocs[which][i].r_info);
            if (type == R_X86_64_IRELATIVE || type == R_AARCH64_IRELATIVE) {
                return true;
            }
        }
    }
    return false;
}

/* Does the loader read something in that segment? */
static bool
holds_tables(const atoll_elf *elf, const Elf64_Phdr *p)
{
    static const int64_t tables[] = {
        DT_SYMTAB, DT_STRTAB, DT_HASH,    DT_GNU_HASH, DT_RELA,
        DT_JMPREL, DT_VERSYM, DT_VERNEED, DT_VERDEF,   36 /* DT_RELR */,
    };
    uint64_t at;
    for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
        if (elf_dynamic(elf, tables[i], 0, &at) && at >= p->p_vaddr &&
            at - p->p_vaddr < p->p_memsz) {
            return true;
        }
    }
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *q = &elf->phdrs[i];
        if (q->p_type != PT_LOAD && q->p_type != PT_GNU_EH_FRAME && q->p_filesz > 0 &&
            q->p_offset < p->p_offset + p->p_filesz &&
            p->p_offset < q->p_offset + q->p_filesz) {
            return true;
        }
    }
    return p->p_offset < sizeof(Elf64_Ehdr);
}

bool
elf_hollow(const atoll_elf *elf, const Elf64_Phdr *p, uint64_t page, uint64_t *from,
           uint64_t *to)
{
    if (p->p_type != PT_LOAD || (p->p_flags & PF_W) != 0 ||
        (p->p_offset - p->p_vaddr) % page != 0 || holds_tables(elf, p) ||
        elf_has_text_relocations(elf) || runs_early(elf)) {
        return false;
    }
    *from = (p->p_offset + page - 1) & ~(page - 1);
    *to = (p->p_offset + p->p_filesz) & ~(page - 1);
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *q = &elf->phdrs[i];
        if (q->p_type == PT_LOAD && q != p && q->p_filesz > 0 &&
            (q->p_offset & ~(page - 1)) < *to && *from < q->p_offset + q->p_filesz) {
            return false; /* both show a page */
        }
    }
    return *from < *to;
}

/* All of the file but that. */
static bool
write_needed(const atoll_elf_copy *copy)
{
    const atoll_elf *elf = copy->elf;
    uint64_t done = 0;
    if (ftruncate(copy->fd, (off_t)elf->size) < 0) {
        return false;
    }
    while (done < elf->size) {
        uint64_t next = elf->size, after = elf->size, from, to;
        for (size_t i = 0; i < elf->phdr_count; i++) {
            if (elf_hollow(elf, &elf->phdrs[i], copy->page, &from, &to) &&
                from >= done && from < next) {
                next = from;
                after = to;
            }
        }
        if (!copy_write_all(copy->fd, elf->bytes + done, next - done, (off_t)done)) {
            return false;
        }
        done = after;
    }
    return true;
}

/* --------------------------------------------------------------------- copy */

atoll_elf_copy *
atoll_elf_copy_new(atoll_elf *elf, const char *label, const atoll_elf_rename *renames,
                   size_t count, atoll_why *why)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bits = elf->size / page + 1;
    atoll_elf_copy *copy = atoll_alloc(sizeof(*copy) + bits / 8 + 1);
    if (copy == NULL) {
        atoll_because(why, "out of memory");
        return NULL;
    }
    copy->elf = elf;
    copy->page = page;
    memset(copy->changed, 0, bits / 8 + 1);
    copy->fd = nameless_file(label);
    if (copy->fd < 0) {
        atoll_because(why, "cannot make a file for a copy: %s", strerror(errno));
        goto fail;
    }
    if (!write_needed(copy) || !unmerge_symbols(copy) || !hide_constructors(copy)) {
        atoll_because(why, "cannot write the copy (%zu bytes): %s", elf->size,
                      strerror(errno));
        goto fail;
    }
    if (!rename_all(copy, renames, count, why)) {
        goto fail;
    }
    return copy;

fail:
    atoll_elf_copy_free(copy);
    return NULL;
}

void
atoll_elf_copy_free(atoll_elf_copy *copy)
{
    if (copy != NULL) {
        if (copy->fd >= 0) {
            close(copy->fd);
        }
        atoll_free(copy);
    }
}

int
atoll_elf_copy_fd(const atoll_elf_copy *copy)
{
    return copy->fd;
}
