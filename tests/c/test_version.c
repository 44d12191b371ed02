/* The version and the ABI, and what of the header is part of the ABI. */
#include "atoll/atoll.h"
#include "tap.h"

static void
test_version_is_the_headers(void)
{
    CHECK(strcmp(atoll_version(), ATOLL_VERSION) == 0);
    CHECK(atoll_abi() == ATOLL_ABI);
}

static void
test_number_and_text_agree(void)
{
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", ATOLL_VERSION_NUMBER >> 16,
             ATOLL_VERSION_NUMBER >> 8 & 0xff, ATOLL_VERSION_NUMBER & 0xff);
    size_t length = strlen(text);
    CHECK(strncmp(ATOLL_VERSION, text, length) == 0);
    /* A pre-release follows: "0.2.0rc1". */
    CHECK(ATOLL_VERSION[length] < '0' || ATOLL_VERSION[length] > '9');
}

/* The numbers that programs have compiled in. Whoever has to change one of
 * these lines gives ATOLL_ABI another number, and changes that line too. */
static void
test_abi(void)
{
    CHECK(ATOLL_ABI == 1);
    static const int errors[] = {
        ATOLL_OK,         ATOLL_ERR_NOMEM,    ATOLL_ERR_TIMEOUT,
        ATOLL_ERR_AGAIN,  ATOLL_ERR_CLOSED,   ATOLL_ERR_INTERRUPTED,
        ATOLL_ERR_FORKED, ATOLL_ERR_NOTFOUND, ATOLL_ERR_INVALID,
        ATOLL_ERR_SYSTEM, ATOLL_ERR_POISONED, ATOLL_ERR_OWNER_DIED,
        ATOLL_ERR_BROKEN,
    };
    for (int i = 0; i < (int)(sizeof(errors) / sizeof(*errors)); i++) {
        CHECK(errors[i] == i);
    }
    CHECK(ATOLL_NOW == 0 && ATOLL_FOREVER == INT64_MAX);
#if UINTPTR_MAX == UINT64_MAX
    CHECK(sizeof(atoll_allocator) == 4 * 8);
    CHECK(sizeof(atoll_region) == 4 * 8);
    CHECK(offsetof(atoll_region, data) == 8);
    CHECK(offsetof(atoll_region, size) == 16);
    CHECK(offsetof(atoll_region, release) == 24);
    CHECK(sizeof(atoll_stats) == 4 * 8);
#endif
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(test_version_is_the_headers);
    RUN(test_number_and_text_agree);
    RUN(test_abi);
    TAP_END();
}
