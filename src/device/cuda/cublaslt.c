/* SPDX-License-Identifier: Apache-2.0 */
/* Finds cuBLASLt at run time. */
#include "device/cuda/cublaslt.h"
#include <dlfcn.h>
#include <string.h>

static const char *const places[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                     "/usr/local/cuda/lib64/libcublasLt.so.13",
                                     "/usr/local/cuda/lib64/libcublasLt.so.12"};

static int find(nv_cublaslt *lt, const char **missing) {
    const struct {
        const char *name;
        void *to; /* where the function's address goes */
    } functions[] = {{"cublasLtGetVersion", &lt->version},
                     {"cublasLtCreate", &lt->create},
                     {"cublasLtDestroy", &lt->destroy},
                     {"cublasLtMatmulDescCreate", &lt->desc_create},
                     {"cublasLtMatmulDescDestroy", &lt->desc_destroy},
                     {"cublasLtMatmulDescSetAttribute", &lt->desc_set},
                     {"cublasLtMatrixLayoutCreate", &lt->layout_create},
                     {"cublasLtMatrixLayoutDestroy", &lt->layout_destroy},
                     {"cublasLtMatmulPreferenceCreate", &lt->preference_create},
                     {"cublasLtMatmulPreferenceDestroy", &lt->preference_destroy},
                     {"cublasLtMatmulPreferenceSetAttribute", &lt->preference_set},
                     {"cublasLtMatmulAlgoGetHeuristic", &lt->heuristic},
                     {"cublasLtMatmulAlgoConfigGetAttribute", &lt->config_get},
                     {"cublasLtMatmul", &lt->matmul}};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *found = dlsym(lt->library, functions[i].name);
        if (!found) {
            *missing = functions[i].name;
            return 0;
        }
        memcpy(functions[i].to, &found, sizeof found); /* POSIX: a function's address fits a void pointer */
    }
    return 1;
}

nabla_status nv_cublaslt_open(nv_cublaslt *lt, nv_error *err) {
    const char *missing = "";
    *lt = (nv_cublaslt){0};
    for (size_t i = 0; i < sizeof places / sizeof *places && !lt->library; i++)
        lt->library = dlopen(places[i], RTLD_NOW | RTLD_LOCAL);
    if (!lt->library) {
        const char *why = dlerror(); /* of the last place */
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "matrix products on a GPU need cuBLASLt, and none of %s, %s, %s and %s can be loaded: install "
                       "CUDA's libcublas, or name its folder in LD_LIBRARY_PATH (%s)",
                       places[0], places[1], places[2], places[3], why ? why : "no reason given");
    }
    if (find(lt, &missing)) return NABLA_OK;
    nv_cublaslt_close(lt);
    return nv_fail(err, NABLA_UNSUPPORTED, "the cuBLASLt that was found has no %s: use that of CUDA 12 or 13", missing);
}

void nv_cublaslt_close(nv_cublaslt *lt) {
    if (lt->library) dlclose(lt->library);
    *lt = (nv_cublaslt){0};
}
