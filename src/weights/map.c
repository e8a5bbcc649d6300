/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static nabla_status map_file(int fd, const char *path, const char *kind, nv_map *out, nv_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) return nv_fail(err, NABLA_IO, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return nv_fail(err, NABLA_IO, "%s is %s, not %s", path, S_ISDIR(info.st_mode) ? "a folder" : "a device", kind);
    if (info.st_size == 0) return NABLA_OK;
    void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) return nv_fail(err, NABLA_IO, "cannot map %s: %s", path, strerror(errno));
    *out = (nv_map){data, (size_t)info.st_size};
    return NABLA_OK;
}

nabla_status nv_map_open(const char *path, const char *kind, nv_map *out, nv_error *err) {
    *out = (nv_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hang us */
    if (fd < 0) return nv_fail(err, NABLA_IO, "cannot open %s: %s", path, strerror(errno));
    nabla_status status = map_file(fd, path, kind, out, err);
    close(fd);
    return status;
}

void nv_map_close(nv_map *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (nv_map){0};
}

void nv_map_expect(const void *data, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data, first = begin / page * page;
    madvise((void *)first, begin + size - first, MADV_WILLNEED); /* advice, as below */
}

void nv_map_forget(const void *data, size_t size) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data;
    const uintptr_t first = (begin + page - 1) / page * page, last = (begin + size) / page * page;
    if (last > first) madvise((void *)first, last - first, MADV_DONTNEED); /* advice: if refused, nothing is lost */
}
