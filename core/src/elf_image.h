/* An open ELF file; see atoll/elf.h. */
#ifndef ELF_IMAGE_H
#define ELF_IMAGE_H

#include <elf.h>

#include "atoll/elf.h"

#if defined(__x86_64__)
#define ELF_HERE EM_X86_64
#elif defined(__aarch64__)
#define ELF_HERE EM_AARCH64
#else
#define ELF_HERE 0
#endif

struct atoll_elf {
    int fd;
    uint64_t device, inode;
    const uint8_t *bytes; /* the file, mapped read-only */
    size_t size;
    const Elf64_Phdr *phdrs;
    size_t phdr_count;
    const Elf64_Dyn *dynamic; /* ends before dynamic_count or with DT_NULL */
    size_t dynamic_count;
    uint64_t dynamic_address; /* where it is in memory */
    const char *strings;      /* NUL-ended as a whole */
    size_t strings_size;
    const Elf64_Sym *symbols;
    size_t symbol_count;
    const Elf64_Rela *relocs[2]; /* DT_RELA, DT_JMPREL */
    size_t reloc_count[2];
    uint64_t verneed; /* file offset, 0: none */
    size_t verneed_count;
    size_t needed_count;
    const char *soname, *runpath, *rpath;
};

/* atoll_elf_open. On failure `bad` says whether the file is at fault; else the
 * process lacks memory or descriptors. */
atoll_elf *elf_open(const char *path, bool *bad, atoll_why *why);

/* The file's bytes for `size` bytes at virtual address `address`; NULL if they
 * are not in the file. */
const void *elf_at(const atoll_elf *elf, uint64_t address, uint64_t size);

/* Is the word at that virtual address in a segment that can be written when the
 * loader relocates it? */
bool elf_is_writable(const atoll_elf *elf, uint64_t address);

/* A string of the table; NULL if there is none. */
const char *elf_string(const atoll_elf *elf, uint64_t offset);

/* The value of the n-th entry with that tag. */
bool elf_dynamic(const atoll_elf *elf, int64_t tag, size_t n, uint64_t *value);

#endif
