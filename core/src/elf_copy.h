/* A copy of an ELF file in memory; see atoll/elf.h. */
#ifndef ELF_COPY_H
#define ELF_COPY_H

#include "elf_image.h"

struct atoll_elf_copy {
    atoll_elf *elf; /* the original; not owned */
    int fd;
    size_t page;       /* bytes of a page */
    uint8_t changed[]; /* a bit for each page of the file that differs */
};

static inline bool
elf_copy_changed(const atoll_elf_copy *copy, uint64_t offset)
{
    uint64_t page = offset / copy->page;
    return copy->changed[page / 8] >> (page % 8) & 1;
}

/* Pages [*from, *to) of the file that segment `p` shows and that a copy need not
 * have: the loader does not look at them, and atoll_elf_share maps the original's
 * before anything runs. False if there are none. */
bool elf_hollow(const atoll_elf *elf, const Elf64_Phdr *p, uint64_t page,
                uint64_t *from, uint64_t *to);

/* Has the loader written to pages that are read-only now? */
bool elf_has_text_relocations(const atoll_elf *elf);

#endif
