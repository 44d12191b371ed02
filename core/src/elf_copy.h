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

#endif
