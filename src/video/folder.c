/* SPDX-License-Identifier: Apache-2.0 */
#include "video/folder.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/read.h"
#include "text/words.h"
#include "video/files.h"
#include "weights/json.h"

enum { MAX_FRAMES = 512 /* of a file; later ones are not used */, MAX_WORDS = 4096 };

typedef struct item {
    char *name; /* of the video, within the folder */
    char caption[NV_CAPTION_SIZE];
    uint8_t *rgb; /* [frames, height, width, 3] */
    int32_t frames;
} item;

typedef struct folder {
    const char *path;
    nv_clip_size clip;
    item *items;
    size_t count;
    char **words;
    size_t word_count;
} folder;

static void destroy(void *user) {
    folder *f = user;
    for (size_t i = 0; i < f->count; i++) {
        free(f->items[i].name);
        free(f->items[i].rgb);
    }
    for (size_t i = 0; i < f->word_count; i++)
        free(f->words[i]);
    free(f->items);
    free(f->words);
    free(f);
}

static nabla_status draw(void *user, nv_philox *g, const nv_clip_size *size, float *video, char *caption,
                         nv_error *err) {
    const folder *f = user;
    (void)err;
    const item *it = &f->items[nv_philox_below(g, (uint32_t)f->count)];
    size_t first = nv_philox_below(g, (uint32_t)(it->frames - size->frames + 1));
    size_t pixels = (size_t)size->height * (size_t)size->width, clip = pixels * (size_t)size->frames;
    const uint8_t *rgb = it->rgb + first * pixels * 3;
    for (size_t i = 0; i < clip; i++)
        for (size_t c = 0; c < 3; c++)
            video[c * clip + i] = (float)rgb[i * 3 + c] * (2.0f / 255.0f) - 1.0f;
    memcpy(caption, it->caption, NV_CAPTION_SIZE);
    return NABLA_OK;
}

static const char *caption_at(void *user, size_t i) {
    const folder *f = user;
    return i < f->count ? f->items[i].caption : NULL;
}

/* ------------------------------------------------------------------ listing */

/* "NAME.txt" for "NAME.mp4" or a folder "NAME" of frames; 0 for hidden files and captions themselves. */
static int caption_name(const char *name, char out[NV_PATH_SIZE]) {
    const char *dot = strrchr(name, '.');
    if (dot == name || (dot && strcmp(dot, ".txt") == 0)) return 0;
    int n = snprintf(out, NV_PATH_SIZE, "%.*s.txt", (int)(dot ? dot - name : (ptrdiff_t)strlen(name)), name);
    return n > 0 && n < NV_PATH_SIZE;
}

static nabla_status add_item(folder *f, const char *name, nv_error *err) {
    char text[NV_PATH_SIZE], path[NV_PATH_SIZE];
    if (!caption_name(name, text)) return NABLA_OK;
    NV_TRY(nv_path_join(path, f->path, text, err));
    FILE *file = fopen(path, "r");
    if (!file) return NABLA_OK; /* not a clip of ours */
    item *items = realloc(f->items, (f->count + 1) * sizeof *items);
    char *copy = strdup(name);
    if (items) f->items = items;
    if (!items || !copy) {
        free(copy);
        fclose(file);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to list %s", f->path);
    }
    item *it = &f->items[f->count++];
    *it = (item){.name = copy};
    size_t n = fread(it->caption, 1, sizeof it->caption - 1, file);
    int bad = ferror(file), longer = n == sizeof it->caption - 1;
    fclose(file);
    while (n > 0 && isspace((unsigned char)it->caption[n - 1]))
        n--;
    it->caption[n] = '\0';
    if (bad) return nv_fail(err, NABLA_IO, "cannot read %s", path);
    if (longer || memchr(it->caption, '\0', n))
        return nv_fail(err, NABLA_CORRUPT, "%s is no caption: write one line of at most %d letters", path,
                       NV_CAPTION_SIZE - 2);
    if (!nv_json_can_hold(it->caption))
        return nv_fail(err, NABLA_CORRUPT, "%s is not UTF-8: convert the caption, as iconv does", path);
    return NABLA_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const item *)a)->name, ((const item *)b)->name);
}

/* In order of names: a folder's own order differs between file systems, and a run's clips must not. */
static nabla_status list_items(folder *f, nv_error *err) {
    DIR *dir = opendir(f->path);
    if (!dir) return nv_fail(err, NABLA_IO, "cannot open the folder %s: %s", f->path, strerror(errno));
    nabla_status status = NABLA_OK;
    struct dirent *entry;
    while (status == NABLA_OK && (entry = readdir(dir)))
        status = add_item(f, entry->d_name, err);
    closedir(dir);
    if (status != NABLA_OK) return status;
    if (f->count == 0)
        return nv_fail(err, NABLA_CORRUPT,
                       "%s holds no video with a caption beside it: put NAME.mp4 and NAME.txt there", f->path);
    qsort(f->items, f->count, sizeof *f->items, by_name);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ videos and words */

static nabla_status read_item(const folder *f, item *it, nv_error *err) {
    char path[NV_PATH_SIZE];
    size_t bytes = 0;
    NV_TRY(nv_memory_add(&bytes, 3, MAX_FRAMES, f->clip.height, f->clip.width, 1, err));
    NV_TRY(nv_memory_check(NULL, bytes, "the folder of videos", "use fewer videos or smaller clips", err));
    NV_TRY(nv_path_join(path, f->path, it->name, err));
    NV_TRY(nv_media_read(path, f->clip.width, f->clip.height, MAX_FRAMES, &it->rgb, &it->frames, err));
    if (it->frames < f->clip.frames)
        return nv_fail(err, NABLA_CORRUPT, "%s has %d frames, a clip needs %d: ask for shorter clips", path, it->frames,
                       f->clip.frames);
    return NABLA_OK;
}

static nabla_status add_word(folder *f, const char *word, nv_error *err) {
    for (size_t i = 0; i < f->word_count; i++)
        if (strcmp(f->words[i], word) == 0) return NABLA_OK;
    if (f->word_count == MAX_WORDS)
        return nv_fail(err, NABLA_UNSUPPORTED, "the captions of %s hold more than %d words", f->path, MAX_WORDS);
    char **words = realloc(f->words, (f->word_count + 1) * sizeof *words);
    char *copy = strdup(word);
    if (words) f->words = words;
    if (!words || !copy) {
        free(copy);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the words of %s", f->path);
    }
    f->words[f->word_count++] = copy;
    return NABLA_OK;
}

static nabla_status collect_words(folder *f, const char *caption, nv_error *err) {
    nv_word word;
    while (nv_words_next(&caption, word))
        NV_TRY(add_word(f, word, err));
    return NABLA_OK;
}

static nabla_status load(folder *f, nv_error *err) {
    NV_TRY(list_items(f, err));
    for (size_t i = 0; i < f->count; i++) {
        NV_TRY(read_item(f, &f->items[i], err));
        NV_TRY(collect_words(f, f->items[i].caption, err));
    }
    if (f->word_count == 0) return nv_fail(err, NABLA_CORRUPT, "the captions of %s are all empty", f->path);
    return NABLA_OK;
}

nabla_status nv_source_folder(const char *path, const nv_clip_size *clip, nv_source *out, nv_error *err) {
    folder *f = calloc(1, sizeof *f);
    if (!f) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a folder of clips");
    *f = (folder){.path = path, .clip = *clip};
    nabla_status status = load(f, err);
    if (status != NABLA_OK) {
        destroy(f);
        return status;
    }
    *out = (nv_source){.user = f, .draw = draw, .destroy = destroy, .word_count = f->word_count};
    out->caption_words = NV_CAPTION_WORDS;
    out->caption = caption_at;
    out->words = (const char *const *)f->words;
    return NABLA_OK;
}
