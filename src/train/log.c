/* SPDX-License-Identifier: Apache-2.0 */
#include "train/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct nv_log {
    FILE *file;
    char *path;
};

static const char header[] = "step,loss,grad_norm,lr,samples_per_second,sparsity,seconds,data_share\n";

/* Whether a line is a whole row (a killed run may have left half of one). */
static int parse_row(const char *line, nv_log_row *row) {
    int used = 0;
    int fields = sscanf(line, "%" SCNd64 ",%lf,%lf,%lf,%lf,%lf,%lf,%lf\n%n", &row->step, &row->loss, &row->grad_norm,
                        &row->lr, &row->samples_per_second, &row->sparsity, &row->seconds, &row->data_share, &used);
    return fields == 8 && used > 0 && line[used - 1] == '\n';
}

/* Copies the header and the rows to keep. */
static void copy_rows(FILE *from, int64_t keep, double *seconds, FILE *to) {
    char line[512];
    nv_log_row row;
    int64_t last = 0;
    if (!fgets(line, sizeof line, from) || strcmp(line, header) != 0) return;
    while (fgets(line, sizeof line, from) && parse_row(line, &row) && row.step > last && row.step <= keep) {
        last = row.step;
        *seconds = row.seconds;
        fputs(line, to);
    }
}

static nabla_status failed(nv_error *err, const char *path) {
    return nv_fail(err, NABLA_IO, "cannot write %s: %s", path, strerror(errno));
}

static nabla_status write_start(const char *path, const char *temporary, int64_t keep, double *seconds, nv_error *err) {
    FILE *to = fopen(temporary, "w");
    if (!to) return failed(err, temporary);
    fputs(header, to);
    FILE *from = keep >= 0 ? fopen(path, "r") : NULL;
    if (from) {
        copy_rows(from, keep, seconds, to);
        fclose(from);
    }
    int bad = ferror(to) != 0;
    bad |= fclose(to) != 0;
    if (bad || rename(temporary, path) != 0) {
        nabla_status status = failed(err, path);
        remove(temporary);
        return status;
    }
    return NABLA_OK;
}

nabla_status nv_log_open(const char *path, int64_t keep, double *seconds, nv_log **out, nv_error *err) {
    *out = NULL;
    *seconds = 0.0;
    size_t size = strlen(path) + 32;
    nv_log *log = calloc(1, sizeof *log);
    char *temporary = malloc(size);
    if (log) log->path = strdup(path);
    nabla_status status = NABLA_OK;
    if (!log || !temporary || !log->path) {
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the training log");
    } else {
        snprintf(temporary, size, "%s.tmp-%ld", path, (long)getpid());
        status = write_start(path, temporary, keep, seconds, err);
        if (status == NABLA_OK) {
            log->file = fopen(path, "a");
            if (!log->file) status = failed(err, path);
        }
    }
    free(temporary);
    if (status != NABLA_OK) {
        nv_log_close(log);
        return status;
    }
    *out = log;
    return NABLA_OK;
}

nabla_status nv_log_add(nv_log *log, const nv_log_row *row, nv_error *err) {
    int n = fprintf(log->file, "%" PRId64 ",%.9g,%.9g,%.9g,%.4g,%.6f,%.2f,%.4f\n", row->step, row->loss, row->grad_norm,
                    row->lr, row->samples_per_second, row->sparsity, row->seconds, row->data_share);
    if (n < 0 || fflush(log->file) != 0) return failed(err, log->path);
    return NABLA_OK;
}

void nv_log_close(nv_log *log) {
    if (!log) return;
    if (log->file) fclose(log->file);
    free(log->path);
    free(log);
}
