/* SPDX-License-Identifier: Apache-2.0 */
/* Output as PNG: one image, or a folder of frames. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/png.h"
#include "media/writer.h"

/* ------------------------------------------------------------------ one image */

typedef struct image {
    nv_media_writer base;
    uint8_t *rgb; /* the frame that is shown */
} image;

static nabla_status check_image(const char *path, const nv_media_options *options, nv_error *err) {
    (void)options;
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return nv_fail(err, NABLA_IO, "cannot write %s: it is a folder; end the name in '/' to put frames there", path);
    return NABLA_OK;
}

static nabla_status open_image(nv_media_writer *w, nv_error *err) {
    (void)w;
    (void)err;
    return NABLA_OK;
}

static nabla_status image_frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err) {
    image *im = (image *)w;
    size_t size = (size_t)w->options.width * (size_t)w->options.height * 3;
    if (w->count > w->options.frames / 2) return NABLA_OK;
    if (!im->rgb) im->rgb = malloc(size);
    if (!im->rgb) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a frame of %s", w->path);
    memcpy(im->rgb, rgb, size);
    return NABLA_OK;
}

static nabla_status finish_image(nv_media_writer *w, nv_error *err) {
    const nv_media_options *o = &w->options;
    return nv_png_write_titled(w->path, ((image *)w)->rgb, o->width, o->height, o->title, o->comment, err);
}

static void abandon_image(nv_media_writer *w) {
    free(((image *)w)->rgb);
}

const nv_media_kind nv_media_png = {sizeof(image), check_image,   open_image, image_frame,
                                    finish_image,  abandon_image, NULL};

/* ------------------------------------------------------------------ a folder */

typedef struct folder {
    nv_media_writer base;
    char *temporary; /* the folder in the making, "" when there is none */
    char *name;      /* room for a path in it */
    size_t name_size;
} folder;

/* "frame-0001.png" and the like. */
static int is_frame(const char *name) {
    static const char prefix[] = "frame-";
    if (strncmp(name, prefix, strlen(prefix))) return 0;
    name += strlen(prefix);
    size_t digits = strspn(name, "0123456789");
    return digits > 0 && !strcmp(name + digits, ".png");
}

/* 1 if the folder holds nothing but frames. */
static int only_frames(const char *path) {
    DIR *dir = opendir(path);
    int only = dir != NULL;
    struct dirent *entry;
    while (only && (entry = readdir(dir))) {
        only = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || is_frame(entry->d_name);
    }
    if (dir) closedir(dir);
    return only;
}

static nabla_status check_folder(const char *path, const nv_media_options *options, nv_error *err) {
    (void)options;
    struct stat info;
    if (lstat(path, &info) != 0) {
        return errno == ENOENT ? NABLA_OK : nv_fail(err, NABLA_IO, "cannot write %s: %s", path, strerror(errno));
    }
    if (!S_ISDIR(info.st_mode))
        return nv_fail(err, NABLA_IO,
                       "cannot write frames to %s: it is no folder; add .mp4, .gif or .png for a single file", path);
    if (!only_frames(path))
        return nv_fail(err, NABLA_IO, "cannot replace the folder %s: it holds more than frames; choose another name",
                       path);
    return NABLA_OK;
}

static void remove_frames(const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return;
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (is_frame(entry->d_name)) unlinkat(dirfd(dir), entry->d_name, 0);
    }
    closedir(dir);
    rmdir(path);
}

static nabla_status open_folder(nv_media_writer *w, nv_error *err) {
    folder *f = (folder *)w;
    size_t n = strlen(w->path);
    while (n > 1 && w->path[n - 1] == '/') {
        w->path[--n] = 0;
    }
    f->name_size = n + 64;
    f->temporary = malloc(f->name_size);
    f->name = malloc(f->name_size);
    if (f->temporary) *f->temporary = 0;
    if (!f->temporary || !f->name) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to open %s", w->path);
    snprintf(f->name, f->name_size, "%s.tmp-%ld", w->path, (long)getpid());
    if (mkdir(f->name, 0777) != 0)
        return nv_fail(err, NABLA_IO, "cannot make the folder %s: %s", f->name, strerror(errno));
    strcpy(f->temporary, f->name);
    return NABLA_OK;
}

static nabla_status folder_frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err) {
    folder *f = (folder *)w;
    const nv_media_options *o = &w->options;
    snprintf(f->name, f->name_size, "%s/frame-%04d.png", f->temporary, w->count + 1);
    return nv_png_write_titled(f->name, rgb, o->width, o->height, o->title, o->comment, err);
}

/* An earlier folder of frames steps aside first; if the new one then cannot take its name, it comes back. */
static nabla_status finish_folder(nv_media_writer *w, nv_error *err) {
    folder *f = (folder *)w;
    snprintf(f->name, f->name_size, "%s.old-%ld", w->path, (long)getpid());
    int replaces = rename(w->path, f->name) == 0;
    if (rename(f->temporary, w->path) != 0) {
        int code = errno;
        if (replaces) rename(f->name, w->path);
        return nv_fail(err, NABLA_IO, "cannot rename %s to %s: %s", f->temporary, w->path, strerror(code));
    }
    *f->temporary = 0;
    if (replaces) remove_frames(f->name);
    return NABLA_OK;
}

static void abandon_folder(nv_media_writer *w) {
    folder *f = (folder *)w;
    if (f->temporary && *f->temporary) remove_frames(f->temporary);
    free(f->temporary);
    free(f->name);
}

const nv_media_kind nv_media_folder = {sizeof(folder), check_folder,   open_folder, folder_frame,
                                       finish_folder,  abandon_folder, NULL};
