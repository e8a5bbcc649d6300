/* SPDX-License-Identifier: Apache-2.0 */
/* The classes and functions that a state dict names, and what calling them would describe. */
#include <string.h>

#include "weights/pickle_value.h"

static const struct {
    const char *module, *name;
    nv_pickle_class class;
    nv_st_dtype dtype;
} classes[] = {
    {"collections", "OrderedDict", NV_PICKLE_ORDERED_DICT, NV_ST_F32},
    {"torch._utils", "_rebuild_tensor_v2", NV_PICKLE_REBUILD_TENSOR, NV_ST_F32},
    {"torch._utils", "_rebuild_parameter", NV_PICKLE_REBUILD_PARAMETER, NV_ST_F32},
    {"torch", "DoubleStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_F64},
    {"torch", "FloatStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_F32},
    {"torch", "HalfStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_F16},
    {"torch", "BFloat16Storage", NV_PICKLE_STORAGE_CLASS, NV_ST_BF16},
    {"torch", "LongStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_I64},
    {"torch", "IntStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_I32},
    {"torch", "ShortStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_I16},
    {"torch", "CharStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_I8},
    {"torch", "ByteStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_U8},
    {"torch", "BoolStorage", NV_PICKLE_STORAGE_CLASS, NV_ST_BOOL},
};

static int same(const char *a, size_t length, const char *b) {
    return strlen(b) == length && memcmp(a, b, length) == 0;
}

nabla_status nv_pickle_class_of(nv_pickle *p, const char *module, size_t module_length, const char *name,
                                size_t name_length, nv_pickle_value *out) {
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (!same(module, module_length, classes[i].module) || !same(name, name_length, classes[i].name)) continue;
        *out = (nv_pickle_value){.kind = NV_PICKLE_CLASS, .class = classes[i].class, .dtype = classes[i].dtype};
        return NABLA_OK;
    }
    return nv_fail(p->err, NABLA_UNSUPPORTED,
                   "%s asks for %.*s.%.*s at byte %zu, which no plain state dict needs: it is not read, and nothing in "
                   "it was run",
                   p->file, module_length < 100 ? (int)module_length : 100, module,
                   name_length < 100 ? (int)name_length : 100, name, p->at);
}

/* Item i of a tuple, or NULL if it has fewer or the item is of another kind. */
static const nv_pickle_value *item(const nv_pickle *p, const nv_pickle_value *tuple, size_t i, nv_pickle_kind kind) {
    if (i >= tuple->length) return NULL;
    const nv_pickle_value *value = &p->values[p->items[tuple->first + i]];
    return value->kind == kind ? value : NULL;
}

static nabla_status malformed(nv_pickle *p, const char *what) {
    return nv_fail(p->err, NABLA_CORRUPT, "%s: the %s that ends at byte %zu is not as torch.save writes it", p->file,
                   what, p->at);
}

/* ('storage', class, key, location, elements) */
nabla_status nv_pickle_storage(nv_pickle *p, const nv_pickle_value *id, nv_pickle_value *out) {
    if (id->kind != NV_PICKLE_TUPLE) return malformed(p, "reference to a storage");
    const nv_pickle_value *word = item(p, id, 0, NV_PICKLE_TEXT), *class = item(p, id, 1, NV_PICKLE_CLASS);
    const nv_pickle_value *key = item(p, id, 2, NV_PICKLE_TEXT), *elements = item(p, id, 4, NV_PICKLE_INT);
    if (id->length != 5 || !word || !class || !key || !elements || !same(word->text, word->length, "storage") ||
        class->class != NV_PICKLE_STORAGE_CLASS || elements->number < 0)
        return malformed(p, "reference to a storage");
    *out = (nv_pickle_value){.kind = NV_PICKLE_STORAGE, .number = elements->number, .dtype = class->dtype};
    out->text = key->text;
    out->length = key->length;
    return NABLA_OK;
}

/* Sizes and strides against the storage. An empty tensor has no last element. */
static nabla_status check_extent(nv_pickle *p, const nv_pickle_tensor *t) {
    size_t bytes = nv_st_dtype_size(t->dtype);
    int64_t last = t->offset;
    int overflow = 0;
    for (int i = 0; i < t->rank; i++) {
        int64_t reach;
        overflow |= __builtin_mul_overflow(bytes, (size_t)t->shape[i], &bytes);
        if (t->shape[i] == 0) continue;
        overflow |= __builtin_mul_overflow(t->shape[i] - 1, t->strides[i], &reach);
        overflow |= __builtin_add_overflow(last, reach, &last);
    }
    if (overflow || bytes > INT64_MAX)
        return nv_fail(p->err, NABLA_OVERFLOW, "%s: the tensor at byte %zu has more elements than can be", p->file,
                       p->at);
    if (bytes > 0 && last >= t->elements)
        return nv_fail(p->err, NABLA_CORRUPT,
                       "%s: the tensor at byte %zu reaches to element %lld of a storage that has %lld", p->file, p->at,
                       (long long)last, (long long)t->elements);
    return NABLA_OK;
}

/* _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks, [metadata]) */
static nabla_status rebuild_tensor(nv_pickle *p, const nv_pickle_value *arguments, nv_pickle_value *out) {
    const nv_pickle_value *storage = item(p, arguments, 0, NV_PICKLE_STORAGE);
    const nv_pickle_value *offset = item(p, arguments, 1, NV_PICKLE_INT);
    const nv_pickle_value *shape = item(p, arguments, 2, NV_PICKLE_TUPLE);
    const nv_pickle_value *strides = item(p, arguments, 3, NV_PICKLE_TUPLE);
    if (arguments->length < 6 || arguments->length > 7 || !storage || !offset || !shape || !strides ||
        offset->number < 0 || shape->length != strides->length)
        return malformed(p, "tensor");
    if (shape->length > NV_ST_MAX_RANK)
        return nv_fail(p->err, NABLA_UNSUPPORTED, "%s: the tensor at byte %zu has %zu dimensions, at most %d are read",
                       p->file, p->at, shape->length, NV_ST_MAX_RANK);
    nv_pickle_tensor t = {.storage = storage->text, .storage_length = storage->length, .dtype = storage->dtype};
    t.elements = storage->number;
    t.offset = offset->number;
    t.rank = (int)shape->length;
    for (size_t i = 0; i < shape->length; i++) {
        const nv_pickle_value *size = item(p, shape, i, NV_PICKLE_INT), *stride = item(p, strides, i, NV_PICKLE_INT);
        if (!size || !stride || size->number < 0 || stride->number < 0) return malformed(p, "tensor");
        t.shape[i] = size->number;
        t.strides[i] = stride->number;
    }
    NV_TRY(check_extent(p, &t));
    NV_TRY(nv_pickle_grow(p, (void **)&p->tensors, p->tensor_count, &p->tensor_space, sizeof *p->tensors));
    *out = (nv_pickle_value){.kind = NV_PICKLE_TENSOR, .number = (int64_t)p->tensor_count};
    p->tensors[p->tensor_count++] = t;
    return NABLA_OK;
}

nabla_status nv_pickle_reduce(nv_pickle *p, const nv_pickle_value *callee, const nv_pickle_value *arguments,
                              nv_pickle_value *out) {
    if (callee->kind != NV_PICKLE_CLASS || arguments->kind != NV_PICKLE_TUPLE) return malformed(p, "call");
    switch (callee->class) {
    case NV_PICKLE_ORDERED_DICT:
        *out = (nv_pickle_value){.kind = NV_PICKLE_DICT};
        return arguments->length == 0 ? NABLA_OK : malformed(p, "OrderedDict");
    case NV_PICKLE_REBUILD_TENSOR:
        return rebuild_tensor(p, arguments, out);
    case NV_PICKLE_REBUILD_PARAMETER: { /* (tensor, requires_grad, hooks) */
        const nv_pickle_value *tensor = item(p, arguments, 0, NV_PICKLE_TENSOR);
        if (arguments->length != 3 || !tensor) return malformed(p, "parameter");
        *out = *tensor;
        return NABLA_OK;
    }
    default:
        return malformed(p, "call");
    }
}
