/* A private folder from which a group of copies is loaded.
 *
 * Wheels find their libraries relative to the file that needs them ($ORIGIN).
 * So for the time of one dlopen there is a folder of ours that looks like the
 * package: links to memory files in place of what is copied, links to the
 * originals for the rest. It has mode 0700 and a name that cannot be predicted,
 * and is removed before anything else happens. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_stage.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder's path has to leave room for what is in it. */
#define FOLDER_MAX 200

bool
elf_temporary_folder(size_t i, elf_temporary what, const char **folder)
{
    /* Links in memory cost a tenth of links on a disk. Data does better on a
     * disk: containers have little shared memory, and nothing in it that may be
     * executed. */
    bool links = what == ELF_LINKS;
    const char *const folders[] = {
        getenv("TMPDIR"),
        links ? "/dev/shm" : "/tmp",
        links ? "/tmp" : "/dev/shm",
        "/var/tmp",
    };
    if (i >= sizeof(folders) / sizeof(*folders)) {
        return false;
    }
    bool good =
        folders[i] != NULL && folders[i][0] == '/' && strlen(folders[i]) < FOLDER_MAX;
    *folder = good ? folders[i] : folders[1];
    return true;
}

static bool
make_root(elf_stage *stage, atoll_why *why)
{
    const char *folder;
    int first = 0;
    for (size_t i = 0; elf_temporary_folder(i, ELF_LINKS, &folder); i++) {
        snprintf(stage->root, sizeof(stage->root), "%s/atoll-XXXXXX", folder);
        if (mkdtemp(stage->root) != NULL) {
            return true;
        }
        first = first == 0 ? errno : first;
    }
    stage->root[0] = '\0';
    return atoll_because(why,
                         "no folder for temporary files can be written "
                         "to: %s; set TMPDIR to one that can",
                         strerror(first));
}

/* The length of the folders that all places have in common that are seen in the
 * stage: those of copies, and of what is found by its origin. */
static size_t
common_prefix(const elf_plan *plan)
{
    const char *first = plan->names[0].place;
    size_t length = (size_t)(plan->names[0].wanted - first) - 1;
    for (size_t i = 1; i < plan->name_count; i++) {
        const char *place = plan->names[i].place;
        if (!plan->names[i].by_origin && !plan->nodes[plan->names[i].node].copied) {
            continue;
        }
        while (length > 0 &&
               (strncmp(first, place, length) != 0 || place[length] != '/')) {
            do {
                length--;
            } while (length > 0 && first[length] != '/');
        }
    }
    return length;
}

bool
elf_stage_make(elf_stage *stage, const elf_plan *plan, atoll_why *why)
{
    stage->prefix = common_prefix(plan);
    return make_root(stage, why);
}

bool
elf_stage_path(const elf_stage *stage, const char *place, const char *wanted,
               char out[PATH_MAX])
{
    const char *rest = place + stage->prefix;
    int folders = (int)(strrchr(place, '/') - rest);
    int n = snprintf(out, PATH_MAX, "%s%.*s/%s", stage->root, folders < 0 ? 0 : folders,
                     rest, wanted);
    return n > 0 && n < PATH_MAX;
}

bool
elf_stage_link(const elf_stage *stage, const char *path, const char *target,
               atoll_why *why)
{
    char folder[PATH_MAX];
    for (const char *at = path + strlen(stage->root) + 1;
         (at = strchr(at, '/')) != NULL; at++) {
        memcpy(folder, path, (size_t)(at - path));
        folder[at - path] = '\0';
        if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
            return atoll_because(why, "cannot make a temporary folder: %s",
                                 strerror(errno));
        }
    }
    if (symlink(target, path) < 0 && errno != EEXIST) {
        return atoll_because(why, "cannot make a temporary link: %s", strerror(errno));
    }
    return true;
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)ftw;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

void
elf_stage_remove(elf_stage *stage)
{
    if (stage->root[0] != '\0') {
        int saved = errno;
        (void)nftw(stage->root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        errno = saved;
        stage->root[0] = '\0';
    }
}
