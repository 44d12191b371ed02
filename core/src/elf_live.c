/* What is changed in a copy after the loader has mapped it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "at_base.h"

/* ---------------------------------------------------------------- redirects */

/* Relocations that put the plain address of a symbol into a word. */
static bool
is_address(uint32_t type)
{
#if defined(__x86_64__)
    return type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT ||
           type == R_X86_64_64;
#elif defined(__aarch64__)
    return type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT ||
           type == R_AARCH64_ABS64;
#else
    (void)type;
    return false;
#endif
}

static const atoll_elf_redirect *
live_find(const atoll_elf *elf, const Elf64_Rela *r,
          const atoll_elf_redirect *redirects, size_t count)
{
    size_t symbol = ELF64_R_SYM(r->r_info);
    if (!is_address((uint32_t)ELF64_R_TYPE(r->r_info)) || r->r_addend != 0 ||
        symbol == 0 || symbol >= elf->symbol_count ||
        elf->symbols[symbol].st_shndx != SHN_UNDEF) {
        return NULL;
    }
    const char *name = elf_string(elf, elf->symbols[symbol].st_name);
    for (size_t i = 0; name != NULL && i < count; i++) {
        if (strcmp(name, redirects[i].name) == 0) {
            return &redirects[i];
        }
    }
    return NULL;
}

/* The part of the copy that the loader has made read-only after relocation:
 * whole pages, rounded as the loader does. */
static bool
protect_relro(const atoll_elf_copy *copy, uintptr_t base, int protection)
{
    const atoll_elf *elf = copy->elf;
    uintptr_t mask = ~(uintptr_t)(copy->page - 1);
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *p = &elf->phdrs[i];
        uintptr_t start = (base + p->p_vaddr) & mask;
        uintptr_t end = (base + p->p_vaddr + p->p_memsz) & mask;
        if (p->p_type == PT_GNU_RELRO && start < end &&
            mprotect((void *)start, end - start, protection) < 0) {
            return false;
        }
    }
    return true;
}

bool
atoll_elf_redirect_all(const atoll_elf_copy *copy, uintptr_t base,
                       const atoll_elf_redirect *redirects, size_t count,
                       atoll_why *why)
{
    const atoll_elf *elf = copy->elf;
    bool open = false;
    for (size_t which = 0; which < 2; which++) {
        for (size_t i = 0; i < elf->reloc_count[which]; i++) {
            const Elf64_Rela *r = &elf->relocs[which][i];
            const atoll_elf_redirect *to = live_find(elf, r, redirects, count);
            if (to == NULL || !elf_is_writable(elf, r->r_offset)) {
                continue;
            }
            if (!open && !protect_relro(copy, base, PROT_READ | PROT_WRITE)) {
                return atoll_because(why, "cannot write to its tables: %s",
                                     strerror(errno));
            }
            open = true;
            /* Words of packed structures are not aligned. */
            memcpy((void *)(base + r->r_offset), &to->target, sizeof(void *));
        }
    }
    if (open && !protect_relro(copy, base, PROT_READ)) {
        return atoll_because(why, "cannot protect its tables: %s", strerror(errno));
    }
    return true;
}

/* -------------------------------------------------------------- constructors */

/* Let the loader run the destructors, which elf_copy.c has hidden from it. If
 * the memory cannot be made writable, they never run. */
static void
show_destructors(const atoll_elf_copy *copy, uintptr_t base)
{
    const atoll_elf *elf = copy->elf;
    bool open = false;
    for (size_t i = 0; i < elf->dynamic_count; i++) {
        const Elf64_Dyn *d = &elf->dynamic[i];
        uint64_t address = elf->dynamic_address + i * sizeof(*d);
        if (d->d_tag != DT_FINI_ARRAYSZ || !elf_is_writable(elf, address)) {
            continue;
        }
        if (!open && !protect_relro(copy, base, PROT_READ | PROT_WRITE)) {
            return;
        }
        open = true;
        ((Elf64_Dyn *)(base + address))->d_un.d_val = d->d_un.d_val;
    }
    (void)(open && protect_relro(copy, base, PROT_READ));
}

void
atoll_elf_construct(const atoll_elf_copy *copy, uintptr_t base)
{
    typedef void function(int, char **, char **);
    const atoll_elf *elf = copy->elf;
    char *no_arguments[] = {NULL};
    uint64_t address, size;
    if (elf_dynamic(elf, DT_INIT, 0, &address)) {
        ((function *)(base + address))(0, no_arguments, environ);
    }
    if (elf_dynamic(elf, DT_INIT_ARRAY, 0, &address) &&
        elf_dynamic(elf, DT_INIT_ARRAYSZ, 0, &size)) {
        function **array = (function **)(base + address);
        for (size_t i = 0; i < size / sizeof(*array); i++) {
            /* 0 and -1 are fillers. */
            if ((uintptr_t)array[i] + 1 > 1) {
                array[i](0, no_arguments, environ);
            }
        }
    }
    show_destructors(copy, base);
}

/* ------------------------------------------------------------------ sharing */

static int
protection_of(const Elf64_Phdr *p)
{
    return ((p->p_flags & PF_R) ? PROT_READ : 0) |
           ((p->p_flags & PF_X) ? PROT_EXEC : 0);
}

/* Pages [from, to) of the file, seen at `at`. If the system refuses, memory is not
 * saved, and that is all. */
static void
share_run(const atoll_elf_copy *copy, const Elf64_Phdr *p, uintptr_t at, uint64_t from,
          uint64_t to)
{
    size_t size = to - from;
    if (mmap((void *)at, size, protection_of(p), MAP_PRIVATE | MAP_FIXED, copy->elf->fd,
             (off_t)from) == MAP_FAILED) {
        return;
    }
#ifdef FALLOC_FL_PUNCH_HOLE
    (void)!fallocate(copy->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from,
                     (off_t)size);
#endif
}

/* Does another segment show that page of the file, too? Some linkers let the
 * end of one and the beginning of the next be in the same page, which then
 * cannot be given back. */
static bool
is_elsewhere_too(const atoll_elf_copy *copy, const Elf64_Phdr *here, uint64_t offset)
{
    for (size_t i = 0; i < copy->elf->phdr_count; i++) {
        const Elf64_Phdr *p = &copy->elf->phdrs[i];
        if (p->p_type == PT_LOAD && p != here && offset + copy->page > p->p_offset &&
            offset < p->p_offset + p->p_filesz) {
            return true;
        }
    }
    return false;
}

bool
atoll_elf_share(const atoll_elf_copy *copy, uintptr_t base, atoll_why *why)
{
    const atoll_elf *elf = copy->elf;
    uint64_t page = copy->page;
    if (elf_has_text_relocations(elf)) {
        return true;
    }
    for (size_t i = 0; i < elf->phdr_count; i++) {
        const Elf64_Phdr *p = &elf->phdrs[i];
        if (p->p_type != PT_LOAD || (p->p_flags & PF_W) != 0 || p->p_filesz == 0 ||
            (p->p_offset - p->p_vaddr) % page != 0) {
            continue;
        }
        uint64_t hollow = 0, full = 0; /* what the copy does not have */
        if (elf_hollow(elf, p, page, &hollow, &full) &&
            mmap((void *)(base + p->p_vaddr + (hollow - p->p_offset)), full - hollow,
                 protection_of(p), MAP_PRIVATE | MAP_FIXED, elf->fd,
                 (off_t)hollow) == MAP_FAILED) {
            return atoll_because(why, "cannot map the original's code: %s",
                                 strerror(errno));
        }
        uint64_t from = p->p_offset & ~(page - 1);
        uint64_t end = (p->p_offset + p->p_filesz) & ~(page - 1);
        uintptr_t start = (base + p->p_vaddr) & ~(uintptr_t)(page - 1);
        for (uint64_t at = from, run = from; at <= end; at += page) {
            if (at < end && !elf_copy_changed(copy, at) &&
                !is_elsewhere_too(copy, p, at) && !(at >= hollow && at < full)) {
                continue;
            }
            if (at > run) {
                share_run(copy, p, start + (run - from), run, at);
            }
            run = at + page;
        }
    }
    return true;
}

/* ------------------------------------------------------------------- thunks */

struct atoll_thunks {
    uint8_t *code;
    size_t size;
};

#define THUNK_BYTES 32

#if defined(__x86_64__)
static void
write_thunk(uint8_t *at, void *context, void *target, uint8_t place)
{
    /* endbr64; movabs $context, %rdi/%rsi/%rdx/%rcx/%r8; movabs $target, %rax;
     * notrack jmp *%rax */
    static const uint8_t registers[] = {0xbf, 0xbe, 0xba, 0xb9, 0xb8};
    static const uint8_t mark[] = {0xf3, 0x0f, 0x1e, 0xfa};
    static const uint8_t jump[] = {0x3e, 0xff, 0xe0};
    memcpy(at, mark, 4);
    at[4] = place < 4 ? 0x48 : 0x49;
    at[5] = registers[place];
    memcpy(at + 6, &context, 8);
    at[14] = 0x48;
    at[15] = 0xb8;
    memcpy(at + 16, &target, 8);
    memcpy(at + 24, jump, sizeof(jump));
}
#elif defined(__aarch64__)
static void
write_thunk(uint8_t *at, void *context, void *target, uint8_t place)
{
    /* bti c; ldr x<place>, context; ldr x16, target; br x16 */
    const uint32_t code[] = {
        UINT32_C(0xd503245f),
        UINT32_C(0x58000000) | 3u << 5 | place,
        UINT32_C(0x58000000) | 4u << 5 | 16u,
        UINT32_C(0xd61f0200),
    };
    memcpy(at, code, sizeof(code));
    memcpy(at + 16, &context, 8);
    memcpy(at + 24, &target, 8);
}
#else
static void
write_thunk(uint8_t *at, void *context, void *target, uint8_t place)
{
    (void)at, (void)context, (void)target, (void)place;
}
#endif

atoll_thunks *
atoll_thunks_new(void *context, void *const *targets, const uint8_t *places,
                 size_t count, atoll_why *why)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (count * THUNK_BYTES + page) & ~(page - 1);
    atoll_thunks *thunks = atoll_alloc(sizeof(*thunks));
    if (thunks == NULL) {
        atoll_because(why, "out of memory");
        return NULL;
    }
    void *code =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) {
        atoll_because(why, "cannot map memory: %s", strerror(errno));
        atoll_free(thunks);
        return NULL;
    }
    *thunks = (atoll_thunks){code, size};
    for (size_t i = 0; i < count; i++) {
        write_thunk(thunks->code + i * THUNK_BYTES, context, targets[i], places[i]);
    }
    __builtin___clear_cache((char *)code, (char *)code + size);
    if (mprotect(code, size, PROT_READ | PROT_EXEC) < 0) {
        atoll_because(why,
                      "the system does not allow code that is made at "
                      "run time: %s",
                      strerror(errno));
        atoll_thunks_free(thunks);
        return NULL;
    }
    return thunks;
}

void *
atoll_thunks_get(const atoll_thunks *thunks, size_t i)
{
    return thunks->code + i * THUNK_BYTES;
}

void
atoll_thunks_free(atoll_thunks *thunks)
{
    if (thunks != NULL) {
        munmap(thunks->code, thunks->size);
        atoll_free(thunks);
    }
}
