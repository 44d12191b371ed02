/* What is constant: the version, and the texts of the error codes. */
#include "atoll/atoll.h"

const char *
atoll_version(void)
{
    return ATOLL_VERSION;
}

int
atoll_abi(void)
{
    return ATOLL_ABI;
}

const char *
atoll_strerror(int err)
{
    switch (err) {
#define TEXT(name, value, text) \
    case ATOLL_ERR_##name:      \
        return text;
        ATOLL_ERRORS(TEXT)
#undef TEXT
    default:
        return "unknown error";
    }
}
