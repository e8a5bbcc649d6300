/* SPDX-License-Identifier: Apache-2.0 */
#include "nabla/nabla.h"

#define TEXT(x) #x
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *nabla_version(void) {
    return VERSION(NABLA_VERSION_MAJOR, NABLA_VERSION_MINOR, NABLA_VERSION_PATCH);
}

const char *nabla_status_string(nabla_status status) {
    switch (status) {
    case NABLA_OK:
        return "ok";
    case NABLA_INVALID_ARGUMENT:
        return "invalid argument";
    case NABLA_UNSUPPORTED:
        return "not supported here";
    case NABLA_OUT_OF_MEMORY:
        return "out of memory";
    case NABLA_OVERFLOW:
        return "size overflow";
    case NABLA_CANCELLED:
        return "cancelled";
    case NABLA_IO:
        return "input or output failed";
    case NABLA_CORRUPT:
        return "corrupt data";
    case NABLA_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}
