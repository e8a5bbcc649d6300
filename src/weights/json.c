/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"

nabla_status nv_json_parse(const char *text, size_t size, const char *name, nv_json *out, nv_error *err) {
    json_error_t problem;
    *out = (nv_json){.name = name, .err = err};
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &problem);
    if (!root) {
        return nv_fail(err, NABLA_CORRUPT, "%s is not valid JSON, line %d: %s", name, problem.line, problem.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return nv_fail(err, NABLA_CORRUPT, "%s holds no JSON object: it must begin with '{'", name);
    }
    out->object = root;
    return NABLA_OK;
}

void nv_json_close(nv_json *j) {
    json_decref(j->object);
    j->object = NULL;
}

nabla_status nv_json_known_keys(const nv_json *j, const char *const *keys) {
    const char *key;
    json_t *value;
    json_object_foreach(j->object, key, value) {
        const char *const *known = keys;
        while (*known && strcmp(key, *known) != 0) {
            known++;
        }
        if (!*known && key[0] != '_') {
            return nv_fail(j->err, NABLA_CORRUPT,
                           "%s has the unknown key \"%s\": the model may be of another kind; notes begin with '_'",
                           j->name, key);
        }
    }
    return NABLA_OK;
}

static nabla_status get(const nv_json *j, const char *key, json_t **out) {
    *out = json_object_get(j->object, key);
    return *out ? NABLA_OK : nv_fail(j->err, NABLA_CORRUPT, "%s lacks the key \"%s\"", j->name, key);
}

nabla_status nv_json_i32(const nv_json *j, const char *key, int32_t least, int32_t most, int32_t *out) {
    json_t *value;
    NV_TRY(get(j, key, &value));
    if (!json_is_integer(value)) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" must be a whole number", j->name, key);
    }
    json_int_t number = json_integer_value(value);
    if (number < least || number > most) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" is %lld, but must lie in %d to %d", j->name, key,
                       (long long)number, least, most);
    }
    *out = (int32_t)number;
    return NABLA_OK;
}

nabla_status nv_json_i32_or(const nv_json *j, const char *key, int32_t least, int32_t most, int32_t *out) {
    const json_t *value = json_object_get(j->object, key);
    return !value || json_is_null(value) ? NABLA_OK : nv_json_i32(j, key, least, most, out);
}

nabla_status nv_json_f32(const nv_json *j, const char *key, float least, float most, float *out) {
    json_t *value;
    NV_TRY(get(j, key, &value));
    if (!json_is_number(value)) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" must be a number", j->name, key);
    }
    double number = json_number_value(value);
    if (!(number >= (double)least && number <= (double)most)) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" is %g, but must lie in %g to %g", j->name, key, number,
                       (double)least, (double)most);
    }
    *out = (float)number;
    return NABLA_OK;
}

nabla_status nv_json_bool(const nv_json *j, const char *key, int32_t *out) {
    json_t *value;
    NV_TRY(get(j, key, &value));
    if (!json_is_boolean(value)) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" must be true or false", j->name, key);
    }
    *out = json_is_true(value) ? 1 : 0;
    return NABLA_OK;
}

nabla_status nv_json_text(const nv_json *j, const char *key, char *out, size_t size) {
    json_t *value;
    NV_TRY(get(j, key, &value));
    const char *text = json_string_value(value);
    if (!text) return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" must be text", j->name, key);
    size_t length = json_string_length(value);
    if (length >= size) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" has %zu bytes, at most %zu are read", j->name, key, length,
                       size - 1);
    }
    memcpy(out, text, length + 1);
    return NABLA_OK;
}

nabla_status nv_json_array(const nv_json *j, const char *key, size_t least, size_t most, json_t **out) {
    NV_TRY(get(j, key, out));
    if (!json_is_array(*out)) return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" must be a list", j->name, key);
    size_t count = json_array_size(*out);
    if (count < least || count > most) {
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" has %zu items, but must have %zu to %zu", j->name, key, count,
                       least, most);
    }
    return NABLA_OK;
}

enum { FLOAT_DIGITS = 9 }; /* decimal digits that tell any two floats apart */

int nv_json_can_hold(const char *text) {
    json_t *string = json_string(text);
    int held = string != NULL;
    json_decref(string);
    return held;
}

void nv_json_copy(char *to, size_t size, const char *from) {
    size_t n = strlen(from);
    if (n >= size) {
        n = size - 1;
        while (n > 0 && ((unsigned char)from[n] & 0xc0) == 0x80) /* the rest of a character that would be cut */
            n--;
    }
    memcpy(to, from, n);
    to[n] = '\0';
    if (!nv_json_can_hold(to)) to[0] = '\0';
}

json_t *nv_json_real(float x) {
    char text[32];
    for (int digits = 1; digits <= FLOAT_DIGITS; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return json_real(strtod(text, NULL));
}

nabla_status nv_json_write(const char *path, json_t *object, nv_error *err) {
    char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(FLOAT_DIGITS)) : NULL;
    json_decref(object);
    if (!text)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "cannot write %s: a text in it is not UTF-8 or a number not finite",
                       path);
    size_t length = strlen(text);
    text[length] = '\n'; /* in the NUL's place: files end with a line */
    nabla_status status = nv_file_write(path, text, length + 1, err);
    free(text);
    return status;
}
