/* SPDX-License-Identifier: Apache-2.0 */
#include "video/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tensor/memory.h"

static nabla_status too_long(const char *path, nv_error *err) {
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "the path %.100s... is longer than %d bytes", path, NV_PATH_SIZE - 1);
}

nabla_status nv_path_set(char out[NV_PATH_SIZE], const char *path, nv_error *err) {
    return snprintf(out, NV_PATH_SIZE, "%s", path) < NV_PATH_SIZE ? NABLA_OK : too_long(path, err);
}

nabla_status nv_path_join(char path[NV_PATH_SIZE], const char *folder, const char *file, nv_error *err) {
    int n = snprintf(path, NV_PATH_SIZE, "%s/%s", folder, file);
    if (n < 0 || n >= NV_PATH_SIZE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the path %.100s.../%.100s is longer than %d bytes", folder, file,
                       NV_PATH_SIZE - 1);
    return NABLA_OK;
}

/* Where a name ends that something is to be put behind: before its extension, or before the '/' of a folder's. */
static size_t stem_of(const char *path) {
    size_t end = strlen(path), name;
    while (end > 1 && path[end - 1] == '/')
        end--;
    if (path[end]) return end;
    for (name = end; name > 0 && path[name - 1] != '/';)
        name--;
    const char *dot = strrchr(path + name, '.');
    return dot && dot > path + name ? (size_t)(dot - path) : end;
}

nabla_status nv_path_number(char out[NV_PATH_SIZE], const char *path, int32_t number, nv_error *err) {
    const size_t stem = stem_of(path);
    if (number == 0) return nv_path_set(out, path, err);
    const int n = snprintf(out, NV_PATH_SIZE, "%.*s-%04" PRId32 "%s", (int)stem, path, number, path + stem);
    return n < NV_PATH_SIZE ? NABLA_OK : too_long(path, err);
}

nabla_status nv_path_beside(char out[NV_PATH_SIZE], const char *path, const char *what, nv_error *err) {
    const int n = snprintf(out, NV_PATH_SIZE, "%.*s.%s.safetensors", (int)stem_of(path), path, what);
    return n < NV_PATH_SIZE ? NABLA_OK : too_long(path, err);
}

static nabla_status make_one(const char *path, nv_error *err) {
    struct stat info;
    if (mkdir(path, 0777) == 0) return NABLA_OK;
    if (errno == EEXIST && stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return NABLA_OK;
        errno = ENOTDIR;
    }
    return nv_fail(err, NABLA_IO, "cannot make the folder %.400s: %s", path, strerror(errno));
}

nabla_status nv_folder_make(const char *path, nv_error *err) {
    char part[NV_PATH_SIZE];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "\"%.100s\" is no name for a folder", path);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (part[i] != '/') continue;
        part[i] = '\0';
        NV_TRY(make_one(part, err));
        part[i] = '/';
    }
    return make_one(part, err);
}

int nv_file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

int nv_path_in(char path[NV_PATH_SIZE], const char *folder, const char *name) {
    if (nv_path_join(path, folder, name, NULL) == NABLA_OK && nv_file_exists(path)) return 1;
    path[0] = '\0';
    return 0;
}

int nv_path_find(char path[NV_PATH_SIZE], const char *folder, const char *const *names) {
    path[0] = '\0';
    while (*names && !nv_path_in(path, folder, *names))
        names++;
    return *names != NULL;
}

nabla_status nv_memory_check(nv_device *device, size_t bytes, const char *what, const char *remedy, nv_error *err) {
    nv_device_memory memory = {.available = nv_memory_available()};
    if (device) device->ops->memory(device, &memory);
    if (memory.available == 0 || (double)bytes <= memory.available) return NABLA_OK;
    return nv_fail(err, NABLA_OUT_OF_MEMORY, "%s needs %.1f GB of %smemory and %.1f GB is available: %s", what,
                   (double)bytes / 1e9, device && strcmp(device->kind, "cuda") == 0 ? "GPU " : "",
                   memory.available / 1e9, remedy);
}

nabla_status nv_memory_add(size_t *total, size_t size, int64_t a, int64_t b, int64_t c, int64_t d, nv_error *err) {
    size_t bytes;
    if (__builtin_mul_overflow(size, (size_t)a, &bytes) || __builtin_mul_overflow(bytes, (size_t)b, &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)c, &bytes) || __builtin_mul_overflow(bytes, (size_t)d, &bytes) ||
        __builtin_add_overflow(*total, bytes, total))
        return nv_fail(err, NABLA_OVERFLOW,
                       "%" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64
                       " elements are too many: choose smaller sizes",
                       a, b, c, d);
    return NABLA_OK;
}
