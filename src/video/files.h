/* SPDX-License-Identifier: Apache-2.0 */
/* Paths, folders and the memory that is left: the little that pipelines need of the operating system. */
#ifndef NV_FILES_H
#define NV_FILES_H

#include "device/device.h"

enum { NV_PATH_SIZE = 4096 };

/* A copy of a path. */
nabla_status nv_path_set(char out[NV_PATH_SIZE], const char *path, nv_error *err);
/* folder/file, which may themselves hold slashes. */
nabla_status nv_path_join(char path[NV_PATH_SIZE], const char *folder, const char *file, nv_error *err);
/* Whether the folder holds that file or folder: folder/name in path, else 0 and "". A path too long is not there. */
int nv_path_in(char path[NV_PATH_SIZE], const char *folder, const char *name);
/* The same of the first of `names` that is there; NULL ends them. */
int nv_path_find(char path[NV_PATH_SIZE], const char *folder, const char *const *names);
/* "cat.mp4" -> "cat-0001.mp4", "frames/" -> "frames-0001/"; number 0: as it is. */
nabla_status nv_path_number(char out[NV_PATH_SIZE], const char *path, int32_t number, nv_error *err);
/* "cat.mp4" -> "cat.latent.safetensors" */
nabla_status nv_path_beside(char out[NV_PATH_SIZE], const char *path, const char *what, nv_error *err);
/* Makes a folder and those above it; one that exists is fine. */
nabla_status nv_folder_make(const char *path, nv_error *err);
int nv_file_exists(const char *path);

/* Fails, naming both figures, when `bytes` for `what` exceed the memory that the device (NULL: the host) has now. */
nabla_status nv_memory_check(nv_device *device, size_t bytes, const char *what, const char *remedy, nv_error *err);
/* *total += a * b * c * d elements of `size` bytes. */
nabla_status nv_memory_add(size_t *total, size_t size, int64_t a, int64_t b, int64_t c, int64_t d, nv_error *err);

#endif
