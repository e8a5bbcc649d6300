/* SPDX-License-Identifier: Apache-2.0 */
/* The instructions: a stack of values, a memo of values to come back to, and dicts that are filled. */
#include "weights/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "weights/pickle_value.h"

nabla_status nv_pickle_grow(nv_pickle *p, void **list, size_t count, size_t *space, size_t size) {
    if (count < *space) return NABLA_OK;
    const size_t more = *space ? 2 * *space : 64;
    void *grown = more > SIZE_MAX / size ? NULL : realloc(*list, more * size);
    if (!grown) return nv_fail(p->err, NABLA_OUT_OF_MEMORY, "no memory to read %s", p->file);
    *list = grown;
    *space = more;
    return NABLA_OK;
}

const char *nv_pickle_kind_name(nv_pickle_kind kind) {
    static const char *const names[] = {"mark",  "None", "bool",  "int",     "float", "text",
                                        "tuple", "dict", "class", "storage", "tensor"};
    return names[kind];
}

/* ------------------------------------------------------------------ bytes */

static nabla_status take(nv_pickle *p, size_t size, const unsigned char **bytes) {
    *bytes = p->data + p->at;
    if (size > p->size - p->at)
        return nv_fail(p->err, NABLA_CORRUPT, "%s is cut off: it ends within the instruction at byte %zu", p->file,
                       p->at);
    p->at += size;
    return NABLA_OK;
}

/* `size` <= 8 bytes, little endian. */
static nabla_status take_number(nv_pickle *p, size_t size, uint64_t *out) {
    const unsigned char *bytes;
    *out = 0;
    NV_TRY(take(p, size, &bytes));
    for (size_t i = 0; i < size; i++)
        *out |= (uint64_t)bytes[i] << (8 * i);
    return NABLA_OK;
}

static nabla_status take_line(nv_pickle *p, const char **text, size_t *length) {
    *text = NULL;
    *length = 0;
    const unsigned char *begin = p->data + p->at, *end = p->at < p->size ? memchr(begin, '\n', p->size - p->at) : NULL;
    if (!end)
        return nv_fail(p->err, NABLA_CORRUPT, "%s is cut off: it ends within the instruction at byte %zu", p->file,
                       p->at);
    *text = (const char *)begin;
    *length = (size_t)(end - begin);
    p->at += *length + 1;
    return NABLA_OK;
}

/* ------------------------------------------------------------------ the stack */

static nabla_status push_number(nv_pickle *p, size_t number) {
    NV_TRY(nv_pickle_grow(p, (void **)&p->stack, p->stack_count, &p->stack_space, sizeof *p->stack));
    p->stack[p->stack_count++] = number;
    return NABLA_OK;
}

static nabla_status push(nv_pickle *p, nv_pickle_value value) {
    NV_TRY(nv_pickle_grow(p, (void **)&p->values, p->value_count, &p->value_space, sizeof *p->values));
    p->values[p->value_count] = value;
    return push_number(p, p->value_count++);
}

static nabla_status push_int(nv_pickle *p, int64_t number) {
    return push(p, (nv_pickle_value){.kind = NV_PICKLE_INT, .number = number});
}

/* `count` values must lie on the stack, none of them a mark. */
static nabla_status need(nv_pickle *p, size_t count) {
    int enough = p->stack_count >= count;
    for (size_t i = 1; enough && i <= count; i++)
        enough = p->values[p->stack[p->stack_count - i]].kind != NV_PICKLE_MARK;
    if (enough) return NABLA_OK;
    return nv_fail(p->err, NABLA_CORRUPT, "%s: the instruction before byte %zu needs %zu values that are not there",
                   p->file, p->at, count);
}

static size_t top(const nv_pickle *p, size_t below) {
    return p->stack[p->stack_count - 1 - below];
}

/* *first: the place on the stack after the last mark. */
static nabla_status find_mark(nv_pickle *p, size_t *first) {
    for (*first = p->stack_count; *first > 0; (*first)--)
        if (p->values[p->stack[*first - 1]].kind == NV_PICKLE_MARK) return NABLA_OK;
    return nv_fail(p->err, NABLA_CORRUPT, "%s: the instruction before byte %zu needs a mark that is not there", p->file,
                   p->at);
}

/* The values from place `first` on become a tuple in place of what lies from `keep` on. */
static nabla_status make_tuple(nv_pickle *p, size_t first, size_t keep) {
    const nv_pickle_value tuple = {.kind = NV_PICKLE_TUPLE, .first = p->item_count, .length = p->stack_count - first};
    for (size_t i = first; i < p->stack_count; i++) {
        NV_TRY(nv_pickle_grow(p, (void **)&p->items, p->item_count, &p->item_space, sizeof *p->items));
        p->items[p->item_count++] = p->stack[i];
    }
    p->stack_count = keep;
    return push(p, tuple);
}

/* ------------------------------------------------------------------ dicts */

static nabla_status set_items(nv_pickle *p, size_t first, size_t keep) {
    const size_t count = p->stack_count - first;
    if (keep == 0 || count % 2 != 0 || p->values[p->stack[keep - 1]].kind != NV_PICKLE_DICT)
        return nv_fail(p->err, NABLA_CORRUPT, "%s: the items before byte %zu are no pairs for a dict", p->file, p->at);
    const size_t dict = p->stack[keep - 1];
    for (size_t i = first; i < p->stack_count; i += 2) {
        NV_TRY(nv_pickle_grow(p, (void **)&p->pairs, p->pair_count, &p->pair_space, sizeof *p->pairs));
        p->pairs[p->pair_count++] = (nv_pickle_pair){dict, p->stack[i], p->stack[i + 1]};
    }
    p->stack_count = keep;
    return NABLA_OK;
}

/* BUILD: a state for an object. Of an OrderedDict it is its attributes (_metadata: versions of modules), of no use. */
static nabla_status build(nv_pickle *p) {
    NV_TRY(need(p, 2));
    const nv_pickle_value *object = &p->values[top(p, 1)];
    if (object->kind != NV_PICKLE_DICT)
        return nv_fail(p->err, NABLA_UNSUPPORTED, "%s sets the state of a %s before byte %zu; only dicts have one",
                       p->file, nv_pickle_kind_name(object->kind), p->at);
    p->stack_count--;
    return NABLA_OK;
}

/* ------------------------------------------------------------------ the memo */

static nabla_status memo_put(nv_pickle *p, uint64_t index) {
    NV_TRY(need(p, 1));
    /* torch.save numbers without gaps: a number above the pickle's bytes is a lie that would cost memory. */
    if (index >= p->size)
        return nv_fail(p->err, NABLA_CORRUPT, "%s: memo %llu before byte %zu is too high", p->file,
                       (unsigned long long)index, p->at);
    while (index >= p->memo_space) {
        const size_t before = p->memo_space;
        NV_TRY(nv_pickle_grow(p, (void **)&p->memo, before, &p->memo_space, sizeof *p->memo));
        memset(p->memo + before, 0, (p->memo_space - before) * sizeof *p->memo);
    }
    p->memo[index] = top(p, 0) + 1;
    return NABLA_OK;
}

static nabla_status memo_get(nv_pickle *p, uint64_t index) {
    if (index >= p->memo_space || p->memo[index] == 0)
        return nv_fail(p->err, NABLA_CORRUPT, "%s: memo %llu before byte %zu was never made", p->file,
                       (unsigned long long)index, p->at);
    return push_number(p, p->memo[index] - 1);
}

/* ------------------------------------------------------------------ instructions */

static nabla_status push_text(nv_pickle *p) {
    uint64_t length;
    const unsigned char *bytes;
    NV_TRY(take_number(p, 4, &length));
    NV_TRY(take(p, (size_t)length, &bytes));
    return push(p, (nv_pickle_value){.kind = NV_PICKLE_TEXT, .text = (const char *)bytes, .length = (size_t)length});
}

/* LONG1: sizes above 2^31. */
static nabla_status push_long(nv_pickle *p) {
    uint64_t length, bits;
    NV_TRY(take_number(p, 1, &length));
    if (length > 8)
        return nv_fail(p->err, NABLA_CORRUPT, "%s: the whole number at byte %zu has %llu bytes, at most 8 are read",
                       p->file, p->at, (unsigned long long)length);
    NV_TRY(take_number(p, (size_t)length, &bits));
    if (length > 0 && length < 8 && bits >> (8 * length - 1)) bits |= ~(uint64_t)0 << (8 * length);
    return push_int(p, (int64_t)bits);
}

static nabla_status push_class(nv_pickle *p) {
    const char *module, *name;
    size_t module_length, name_length;
    nv_pickle_value value;
    NV_TRY(take_line(p, &module, &module_length));
    NV_TRY(take_line(p, &name, &name_length));
    NV_TRY(nv_pickle_class_of(p, module, module_length, name, name_length, &value));
    return push(p, value);
}

static nabla_status reduce(nv_pickle *p) {
    nv_pickle_value value = {0};
    NV_TRY(need(p, 2));
    NV_TRY(nv_pickle_reduce(p, &p->values[top(p, 1)], &p->values[top(p, 0)], &value));
    p->stack_count -= 2;
    return push(p, value);
}

static nabla_status persistent(nv_pickle *p) {
    nv_pickle_value value = {0};
    NV_TRY(need(p, 1));
    NV_TRY(nv_pickle_storage(p, &p->values[top(p, 0)], &value));
    p->stack_count--;
    return push(p, value);
}

static nabla_status tuple_of(nv_pickle *p, size_t count) {
    NV_TRY(need(p, count));
    return make_tuple(p, p->stack_count - count, p->stack_count - count);
}

static nabla_status to_mark(nv_pickle *p, nabla_status (*use)(nv_pickle *p, size_t first, size_t keep)) {
    size_t first = 0;
    NV_TRY(find_mark(p, &first));
    return use(p, first, first - 1);
}

static nabla_status numbered(nv_pickle *p, size_t bytes, nabla_status (*use)(nv_pickle *p, uint64_t index)) {
    uint64_t index;
    NV_TRY(take_number(p, bytes, &index));
    return use(p, index);
}

static nabla_status push_whole(nv_pickle *p, size_t bytes) {
    uint64_t bits;
    NV_TRY(take_number(p, bytes, &bits));
    return push_int(p, bytes == 4 ? (int32_t)(uint32_t)bits : (int64_t)bits);
}

static nabla_status push_float(nv_pickle *p) {
    const unsigned char *bytes;
    NV_TRY(take(p, 8, &bytes));
    return push(p, (nv_pickle_value){.kind = NV_PICKLE_FLOAT});
}

static nabla_status protocol(nv_pickle *p) {
    uint64_t version;
    NV_TRY(take_number(p, 1, &version));
    if (version == 2) return NABLA_OK;
    return nv_fail(p->err, NABLA_UNSUPPORTED, "%s is of pickle protocol %llu, torch.save's own is 2", p->file,
                   (unsigned long long)version);
}

static nabla_status step(nv_pickle *p, unsigned char code) {
    switch (code) {
    case 0x80: /* PROTO */
        return protocol(p);
    case '(': /* MARK */
        return push(p, (nv_pickle_value){.kind = NV_PICKLE_MARK});
    case 'N': /* NONE */
        return push(p, (nv_pickle_value){.kind = NV_PICKLE_NONE});
    case 0x88: /* NEWTRUE */
    case 0x89: /* NEWFALSE */
        return push(p, (nv_pickle_value){.kind = NV_PICKLE_BOOL, .number = code == 0x88});
    case 'K': /* BININT1 */
        return push_whole(p, 1);
    case 'M': /* BININT2 */
        return push_whole(p, 2);
    case 'J': /* BININT */
        return push_whole(p, 4);
    case 0x8a: /* LONG1 */
        return push_long(p);
    case 'G': /* BINFLOAT */
        return push_float(p);
    case 'X': /* BINUNICODE */
        return push_text(p);
    case ')': /* EMPTY_TUPLE */
        return tuple_of(p, 0);
    case 0x85: /* TUPLE1 */
    case 0x86:
    case 0x87: /* TUPLE3 */
        return tuple_of(p, (size_t)code - 0x84);
    case 't': /* TUPLE */
        return to_mark(p, make_tuple);
    case '}': /* EMPTY_DICT */
        return push(p, (nv_pickle_value){.kind = NV_PICKLE_DICT});
    case 's': /* SETITEM */
        NV_TRY(need(p, 3));
        return set_items(p, p->stack_count - 2, p->stack_count - 2);
    case 'u': /* SETITEMS */
        return to_mark(p, set_items);
    case 'c': /* GLOBAL */
        return push_class(p);
    case 'R': /* REDUCE */
        return reduce(p);
    case 'Q': /* BINPERSID */
        return persistent(p);
    case 'b': /* BUILD */
        return build(p);
    case 'q': /* BINPUT */
        return numbered(p, 1, memo_put);
    case 'r': /* LONG_BINPUT */
        return numbered(p, 4, memo_put);
    case 'h': /* BINGET */
        return numbered(p, 1, memo_get);
    case 'j': /* LONG_BINGET */
        return numbered(p, 4, memo_get);
    default:
        return nv_fail(p->err, NABLA_UNSUPPORTED,
                       "%s holds the pickle instruction 0x%02x at byte %zu, which no plain state dict needs: it is not "
                       "read, and nothing in it was run",
                       p->file, code, p->at - 1);
    }
}

static nabla_status run(nv_pickle *p) {
    for (;;) {
        const unsigned char *code;
        NV_TRY(take(p, 1, &code));
        if (*code == '.') return need(p, 1); /* STOP */
        NV_TRY(step(p, *code));
    }
}

/* ------------------------------------------------------------------ the result */

static nabla_status name_tensor(const nv_pickle *p, const nv_pickle_pair *pair, nv_pickle_tensor *out) {
    const nv_pickle_value *key = &p->values[pair->key], *value = &p->values[pair->value];
    if (key->kind != NV_PICKLE_TEXT || (key->length > 0 && memchr(key->text, '\0', key->length)))
        return nv_fail(p->err, NABLA_CORRUPT, "%s is no state dict: one of its keys is no text", p->file);
    if (value->kind != NV_PICKLE_TENSOR)
        return nv_fail(p->err, NABLA_UNSUPPORTED, "%s is no plain state dict: its entry \"%.*s\" is a %s, not a tensor",
                       p->file, key->length < 100 ? (int)key->length : 100, key->text,
                       nv_pickle_kind_name(value->kind));
    *out = p->tensors[value->number];
    out->name = key->text;
    out->name_length = key->length;
    return NABLA_OK;
}

static int compare_names(const void *a, const void *b) {
    const nv_pickle_tensor *x = a, *y = b;
    const size_t shorter = x->name_length < y->name_length ? x->name_length : y->name_length;
    const int order = shorter ? memcmp(x->name, y->name, shorter) : 0;
    return order ? order : (x->name_length > y->name_length) - (x->name_length < y->name_length);
}

/* A dict that sets a key twice is hostile: which of the two counts would depend on the reader. Names that differ also
   have bytes of their own in the pickle, so that copies of them take no more memory than it. */
static nabla_status refuse_twins(const nv_pickle *p, nv_pickle_tensor *tensors, size_t count) {
    qsort(tensors, count, sizeof *tensors, compare_names);
    for (size_t i = 1; i < count; i++)
        if (compare_names(&tensors[i - 1], &tensors[i]) == 0)
            return nv_fail(p->err, NABLA_CORRUPT, "%s holds tensor \"%.*s\" twice", p->file,
                           tensors[i].name_length < 200 ? (int)tensors[i].name_length : 200, tensors[i].name);
    return NABLA_OK;
}

static nabla_status collect(const nv_pickle *p, nv_pickle_tensor **tensors, size_t *count) {
    const size_t dict = top(p, 0);
    if (p->values[dict].kind != NV_PICKLE_DICT)
        return nv_fail(p->err, NABLA_UNSUPPORTED, "%s holds a %s, not a state dict", p->file,
                       nv_pickle_kind_name(p->values[dict].kind));
    *tensors = calloc(p->pair_count + 1, sizeof **tensors);
    if (!*tensors) return nv_fail(p->err, NABLA_OUT_OF_MEMORY, "no memory to read %s", p->file);
    for (size_t i = 0; i < p->pair_count; i++)
        if (p->pairs[i].dict == dict) NV_TRY(name_tensor(p, &p->pairs[i], &(*tensors)[(*count)++]));
    return refuse_twins(p, *tensors, *count);
}

nabla_status nv_pickle_read(const void *data, size_t size, const char *file, nv_pickle_tensor **tensors, size_t *count,
                            nv_error *err) {
    nv_pickle p = {.data = data, .size = size, .file = file, .err = err};
    *tensors = NULL;
    *count = 0;
    nabla_status status = run(&p);
    if (status == NABLA_OK) status = collect(&p, tensors, count);
    if (status != NABLA_OK) {
        free(*tensors);
        *tensors = NULL;
        *count = 0;
    }
    free(p.values);
    free(p.stack);
    free(p.items);
    free(p.memo);
    free(p.pairs);
    free(p.tensors);
    return status;
}
