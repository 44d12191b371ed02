/* Reading ELF files: what they hold and ask for. Trusts no offset of them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool
atoll_because(atoll_why *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return false;
}

bool
atoll_elf_supported(void)
{
#if defined(__linux__) && defined(__GLIBC__) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return ELF_HERE != 0;
#else
    return false;
#endif
}

/* ---------------------------------------------------------------- addresses */

const void *
elf_at(const atoll_elf *elf, uint64_t address, uint64_t size)
{
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *p = &elf->phdrs[i];
        if (p->p_type == PT_LOAD && address >= p->p_vaddr && size <= p->p_filesz &&
            address - p->p_vaddr <= p->p_filesz - size) {
            return elf->bytes + p->p_offset + (address - p->p_vaddr);
        }
    }
    return NULL;
}

bool
elf_is_writable(const atoll_elf *elf, uint64_t address)
{
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *p = &elf->phdrs[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_W) != 0 && address >= p->p_vaddr &&
            p->p_memsz >= sizeof(void *) &&
            address - p->p_vaddr <= p->p_memsz - sizeof(void *)) {
            return true;
        }
    }
    return false;
}

const char *
elf_string(const atoll_elf *elf, uint64_t offset)
{
    return offset < elf->strings_size ? elf->strings + offset : NULL;
}

bool
elf_dynamic(const atoll_elf *elf, int64_t tag, size_t n, uint64_t *value)
{
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        if (elf->dynamic[i].d_tag == tag && n-- == 0) {
            *value = elf->dynamic[i].d_un.d_val;
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ reading */

/* The smallest page of both machines. The loader refuses segments whose place
 * in the file and in memory differ by anything but pages; that we do too makes
 * what is aligned in memory aligned in the mapped file. */
#define SMALLEST_PAGE 4096

/* More than any object has, so that reading a damaged one takes no time. */
#define NEEDED_MAX 4096

/* `count` entries of `width` bytes at file offset `offset` are in the file, and
 * aligned as such tables are. */
static bool
in_file(const atoll_elf *elf, uint64_t offset, uint64_t count, uint64_t width)
{
    return offset <= elf->size && offset % 8 == 0 &&
           count <= (elf->size - offset) / width;
}

static bool
read_header(atoll_elf *elf, atoll_why *why)
{
    const Elf64_Ehdr *h = (const void *)elf->bytes;
    if (elf->size < sizeof(*h) || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0) {
        return atoll_because(why, "not an ELF file");
    }
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
        h->e_machine != ELF_HERE) {
        return atoll_because(why, "it is for another machine");
    }
    if (h->e_type != ET_DYN) {
        return atoll_because(why, "not a shared object");
    }
    if (h->e_phentsize != sizeof(Elf64_Phdr) ||
        !in_file(elf, h->e_phoff, h->e_phnum, sizeof(Elf64_Phdr))) {
        return atoll_because(why, "damaged: its program headers");
    }
    elf->phdrs = (const void *)(elf->bytes + h->e_phoff);
    elf->phdr_count = h->e_phnum;
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *p = &elf->phdrs[i];
        if (p->p_type != PT_LOAD && p->p_type != PT_DYNAMIC) {
            continue;
        }
        if (p->p_offset > elf->size || p->p_filesz > elf->size - p->p_offset ||
            p->p_vaddr + p->p_memsz < p->p_vaddr) {
            return atoll_because(why, "damaged: it is too short");
        }
        if (p->p_type == PT_LOAD && (p->p_offset - p->p_vaddr) % SMALLEST_PAGE != 0) {
            return atoll_because(why, "damaged: a segment's place");
        }
        if (p->p_type == PT_DYNAMIC) {
            if (p->p_offset % 8 != 0) {
                return atoll_because(why, "damaged: its dynamic section");
            }
            elf->dynamic = (const void *)(elf->bytes + p->p_offset);
            elf->dynamic_count = p->p_filesz / sizeof(Elf64_Dyn);
            elf->dynamic_address = p->p_vaddr;
        }
    }
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        if (elf->dynamic[i].d_tag == DT_NULL) {
            elf->dynamic_count = i;
        }
    }
    if (elf->dynamic_count == 0) {
        return atoll_because(why, "not a shared object: no dynamic section");
    }
    return true;
}

static bool
read_strings(atoll_elf *elf, atoll_why *why)
{
    uint64_t address, size;
    if (!elf_dynamic(elf, DT_STRTAB, 0, &address) ||
        !elf_dynamic(elf, DT_STRSZ, 0, &size) || size == 0) {
        return atoll_because(why, "damaged: no table of strings");
    }
    elf->strings = elf_at(elf, address, size);
    elf->strings_size = size;
    if (elf->strings == NULL || elf->strings[size - 1] != '\0') {
        return atoll_because(why, "damaged: its table of strings");
    }
    return true;
}

/* The number of symbols is written nowhere but in the hash tables. */
static size_t
count_gnu_hash(const atoll_elf *elf, uint64_t address)
{
    const uint32_t *head = elf_at(elf, address, 16);
    if (head == NULL || address % 4 != 0) {
        return 0;
    }
    uint64_t buckets = head[0], first = head[1], bloom = head[2];
    uint64_t at = address + 16 + bloom * 8;
    const uint32_t *bucket = elf_at(elf, at, buckets * 4);
    if (bucket == NULL) {
        return 0;
    }
    uint64_t last = 0;
    for (uint64_t i = 0; i < buckets; i++) {
        last = bucket[i] > last ? bucket[i] : last;
    }
    if (last < first) {
        return first; /* only imports */
    }
    uint64_t chains = at + buckets * 4;
    for (;; last++) {
        const uint32_t *link = elf_at(elf, chains + (last - first) * 4, 4);
        if (link == NULL) {
            return 0;
        }
        if (*link & 1) {
            return last + 1;
        }
    }
}

/* One more than the last symbol that a relocation names. */
static uint64_t
count_used(const atoll_elf *elf)
{
    uint64_t count = 0;
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; i < elf->reloc_count[which]; i++) {
            uint64_t symbol = ELF64_R_SYM(elf->relocs[which][i].r_info);
            count = symbol >= count ? symbol + 1 : count;
        }
    }
    return count;
}

/* Relocations are known already. */
static bool
read_symbols(atoll_elf *elf, atoll_why *why)
{
    uint64_t address, hash;
    if (!elf_dynamic(elf, DT_SYMTAB, 0, &address)) {
        return atoll_because(why, "damaged: no table of symbols");
    }
    if (elf_dynamic(elf, DT_HASH, 0, &hash)) {
        const uint32_t *head = hash % 4 == 0 ? elf_at(elf, hash, 8) : NULL;
        elf->symbol_count = head == NULL ? 0 : head[1];
    }
    else if (elf_dynamic(elf, DT_GNU_HASH, 0, &hash)) {
        elf->symbol_count = count_gnu_hash(elf, hash);
        /* An object that exports nothing: GNU ld writes an empty table, which
         * does not tell where the imports end. */
        uint64_t used = count_used(elf);
        if (elf->symbol_count > 0 && elf->symbol_count < used) {
            elf->symbol_count = used;
        }
    }
    elf->symbols = elf_at(elf, address, elf->symbol_count * sizeof(Elf64_Sym));
    if (elf->symbols == NULL || elf->symbol_count == 0 || address % 8 != 0) {
        return atoll_because(why, "damaged: its table of symbols");
    }
    return true;
}

static bool
read_relocs(atoll_elf *elf, size_t which, int64_t tag, int64_t size_tag, atoll_why *why)
{
    uint64_t address, size;
    if (!elf_dynamic(elf, tag, 0, &address)) {
        return true; /* none of this kind */
    }
    if (elf_dynamic(elf, size_tag, 0, &size) && size == 0) {
        return true; /* and then the address may mean nothing */
    }
    if (!elf_dynamic(elf, size_tag, 0, &size) || address % 8 != 0) {
        return atoll_because(why, "damaged: its relocations");
    }
    elf->relocs[which] = elf_at(elf, address, size);
    elf->reloc_count[which] = size / sizeof(Elf64_Rela);
    return elf->relocs[which] != NULL || atoll_because(why, "damaged: its relocations");
}

static bool
read_dynamic(atoll_elf *elf, atoll_why *why)
{
    uint64_t value;
    if (!read_strings(elf, why) || !read_relocs(elf, 0, DT_RELA, DT_RELASZ, why) ||
        !read_relocs(elf, 1, DT_JMPREL, DT_PLTRELSZ, why) || !read_symbols(elf, why)) {
        return false;
    }
    if (elf_dynamic(elf, DT_VERNEED, 0, &value)) {
        const uint8_t *at = elf_at(elf, value, sizeof(Elf64_Verneed));
        if (at == NULL || !elf_dynamic(elf, DT_VERNEEDNUM, 0, &value)) {
            return atoll_because(why, "damaged: its versions");
        }
        elf->verneed = (uint64_t)(at - elf->bytes);
        elf->verneed_count = value;
    }
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        if (elf->dynamic[i].d_tag == DT_NEEDED &&
            (elf_string(elf, elf->dynamic[i].d_un.d_val) == NULL ||
             ++elf->needed_count > NEEDED_MAX)) {
            return atoll_because(why, "damaged: what it needs");
        }
    }
    elf->soname =
        elf_dynamic(elf, DT_SONAME, 0, &value) ? elf_string(elf, value) : NULL;
    elf->runpath =
        elf_dynamic(elf, DT_RUNPATH, 0, &value) ? elf_string(elf, value) : NULL;
    elf->rpath = elf->runpath == NULL && elf_dynamic(elf, DT_RPATH, 0, &value)
                     ? elf_string(elf, value)
                     : NULL;
    return true;
}

atoll_elf *
elf_open(const char *path, bool *bad, atoll_why *why)
{
    *bad = false;
    if (!atoll_elf_supported()) {
        atoll_because(why, "atoll knows no loader but that of glibc, on "
                           "x86-64 and aarch64");
        return NULL;
    }
    atoll_elf *elf = atoll_alloc(sizeof(*elf));
    if (elf == NULL) {
        atoll_because(why, "out of memory");
        return NULL;
    }
    *elf = (atoll_elf){.fd = -1};
    struct stat st;
    /* O_NONBLOCK: a pipe of that name would be waited for. */
    elf->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (elf->fd < 0 || fstat(elf->fd, &st) < 0) {
        *bad = errno != EMFILE && errno != ENFILE && errno != ENOMEM;
        atoll_because(why, "cannot open it: %s", strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr)) {
        *bad = true;
        atoll_because(why, "not an ELF file");
        goto fail;
    }
    elf->device = (uint64_t)st.st_dev;
    elf->inode = (uint64_t)st.st_ino;
    elf->size = (size_t)st.st_size;
    void *map = mmap(NULL, elf->size, PROT_READ, MAP_PRIVATE, elf->fd, 0);
    if (map == MAP_FAILED) {
        atoll_because(why, "cannot map it: %s", strerror(errno));
        goto fail;
    }
    elf->bytes = map;
    if (!read_header(elf, why) || !read_dynamic(elf, why)) {
        *bad = true;
        goto fail;
    }
    return elf;

fail:
    atoll_elf_close(elf);
    return NULL;
}

atoll_elf *
atoll_elf_open(const char *path, atoll_why *why)
{
    bool bad;
    return elf_open(path, &bad, why);
}

void
atoll_elf_close(atoll_elf *elf)
{
    if (elf == NULL) {
        return;
    }
    if (elf->bytes != NULL) {
        munmap((void *)(uintptr_t)elf->bytes, elf->size);
    }
    if (elf->fd >= 0) {
        close(elf->fd);
    }
    atoll_free(elf);
}

/* ---------------------------------------------------------------- questions */

uint64_t
atoll_elf_device(const atoll_elf *elf)
{
    return elf->device;
}

uint64_t
atoll_elf_inode(const atoll_elf *elf)
{
    return elf->inode;
}

size_t
atoll_elf_size(const atoll_elf *elf)
{
    return elf->size;
}

size_t
atoll_elf_needed_count(const atoll_elf *elf)
{
    return elf->needed_count;
}

const char *
atoll_elf_needed(const atoll_elf *elf, size_t i)
{
    uint64_t offset;
    return elf_dynamic(elf, DT_NEEDED, i, &offset) ? elf_string(elf, offset) : NULL;
}

const char *
atoll_elf_soname(const atoll_elf *elf)
{
    return elf->soname;
}

const char *
atoll_elf_runpath(const atoll_elf *elf)
{
    return elf->runpath;
}

const char *
atoll_elf_rpath(const atoll_elf *elf)
{
    return elf->rpath;
}

static bool
image_imports(const atoll_elf *elf, const char *name, size_t length)
{
    for (size_t i = 1; i < elf->symbol_count; i++) {
        const Elf64_Sym *s = &elf->symbols[i];
        const char *its = s->st_shndx == SHN_UNDEF ? elf_string(elf, s->st_name) : NULL;
        if (its != NULL && strncmp(its, name, length) == 0) {
            return true;
        }
    }
    return false;
}

bool
atoll_elf_imports(const atoll_elf *elf, const char *name)
{
    return image_imports(elf, name, strlen(name) + 1);
}

bool
atoll_elf_imports_prefix(const atoll_elf *elf, const char *prefix)
{
    return image_imports(elf, prefix, strlen(prefix));
}
