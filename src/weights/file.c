/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static nabla_status read_stream(FILE *stream, const char *path, size_t size, char **text, nv_error *err) {
    char *buffer = malloc(size + 1);
    if (!buffer) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the %zu bytes of %s", size, path);
    if (fread(buffer, 1, size, stream) != size) {
        free(buffer);
        return nv_fail(err, NABLA_IO, "%s ended before its %zu bytes were read", path, size);
    }
    buffer[size] = '\0';
    *text = buffer;
    return NABLA_OK;
}

nabla_status nv_file_read(const char *path, size_t limit, char **text, size_t *size, nv_error *err) {
    *text = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hang us */
    if (fd < 0) return nv_fail(err, NABLA_IO, "cannot open %s: %s", path, strerror(errno));
    struct stat info;
    nabla_status status = NABLA_OK;
    if (fstat(fd, &info) != 0) {
        status = nv_fail(err, NABLA_IO, "cannot look at %s: %s", path, strerror(errno));
    } else if (!S_ISREG(info.st_mode)) {
        status = nv_fail(err, NABLA_IO, "%s is %s, not a file", path, S_ISDIR(info.st_mode) ? "a folder" : "a device");
    } else if (info.st_size < 0 || (uintmax_t)info.st_size > limit) {
        status = nv_fail(err, NABLA_CORRUPT, "%s has %jd bytes, more than the %zu that such a file may have", path,
                         (intmax_t)info.st_size, limit);
    }
    FILE *stream = status == NABLA_OK ? fdopen(fd, "rb") : NULL;
    if (!stream) {
        close(fd);
        return status != NABLA_OK ? status : nv_fail(err, NABLA_IO, "cannot open %s: %s", path, strerror(errno));
    }
    status = read_stream(stream, path, (size_t)info.st_size, text, err);
    if (status == NABLA_OK) *size = (size_t)info.st_size;
    fclose(stream);
    return status;
}

struct nv_file_writer {
    FILE *stream;
    char *path, *temporary;
};

static nabla_status fail_to_write(const nv_file_writer *w, nv_error *err) {
    return nv_fail(err, NABLA_IO, "cannot write %s: %s", w->path, strerror(errno));
}

static nv_file_writer *writer_new(const char *path) {
    nv_file_writer *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    size_t size = strlen(path) + 32;
    w->path = strdup(path);
    w->temporary = malloc(size);
    if (!w->path || !w->temporary) {
        free(w->path);
        free(w->temporary);
        free(w);
        return NULL;
    }
    snprintf(w->temporary, size, "%s.tmp-%ld", path, (long)getpid());
    return w;
}

nabla_status nv_file_create(const char *path, nv_file_writer **out, nv_error *err) {
    *out = NULL;
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        return nv_fail(err, NABLA_IO, "cannot write %s: it exists and is %s", path,
                       S_ISDIR(info.st_mode) ? "a folder" : "no regular file");
    }
    nv_file_writer *w = writer_new(path);
    if (!w) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", path);
    w->stream = fopen(w->temporary, "wbe");
    if (!w->stream) {
        nabla_status status = fail_to_write(w, err);
        nv_file_abandon(w);
        return status;
    }
    *out = w;
    return NABLA_OK;
}

nabla_status nv_file_put(nv_file_writer *w, const void *data, size_t size, nv_error *err) {
    return size == 0 || fwrite(data, 1, size, w->stream) == size ? NABLA_OK : fail_to_write(w, err);
}

/* A renamed file is safe from a power cut only once its folder is on disk. Not every file system can; none is worse
   off for the attempt. */
static void sync_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *folder = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

nabla_status nv_file_commit(nv_file_writer *w, nv_error *err) {
    nabla_status status = NABLA_OK;
    if (fflush(w->stream) != 0 || fsync(fileno(w->stream)) != 0) status = fail_to_write(w, err);
    int closed = fclose(w->stream);
    w->stream = NULL;
    if (status == NABLA_OK && (closed != 0 || rename(w->temporary, w->path) != 0)) status = fail_to_write(w, err);
    if (status == NABLA_OK) {
        sync_folder_of(w->path);
        free(w->temporary); /* now has its final name: nothing left to remove */
        w->temporary = NULL;
    }
    nv_file_abandon(w);
    return status;
}

void nv_file_abandon(nv_file_writer *w) {
    if (!w) return;
    if (w->stream) fclose(w->stream);
    if (w->temporary) unlink(w->temporary);
    free(w->temporary);
    free(w->path);
    free(w);
}

nabla_status nv_file_write(const char *path, const void *data, size_t size, nv_error *err) {
    nv_file_writer *w;
    NV_TRY(nv_file_create(path, &w, err));
    nabla_status status = nv_file_put(w, data, size, err);
    if (status == NABLA_OK) return nv_file_commit(w, err);
    nv_file_abandon(w);
    return status;
}
