/* Counted messages: what cells hold, and barriers with an action. See at_sync.h. */
#include "at_atomic.h"
#include "at_sync.h"

atoll_err
atoll_value_new(atoll_msg *msg, atoll_value **out)
{
    atoll_value *value = *out = atoll_alloc(sizeof(*value));
    if (value == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    value->refs = 1;
    value->msg = *msg;
    return ATOLL_OK;
}

void
atoll_value_unref(atoll_value *value)
{
    /* Acquire and release: others have read it before it is dropped. */
    if (at_sub_ar(&value->refs, 1) == 1) {
        atoll_msg_drop(&value->msg);
        atoll_free(value);
    }
}

const atoll_msg *
atoll_value_msg(const atoll_value *value)
{
    return &value->msg;
}
