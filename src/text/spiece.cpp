// SPDX-License-Identifier: Apache-2.0
#include "text/spiece.h"

#include <cstdio>
#include <exception>
#include <new>
#include <sentencepiece_processor.h>
#include <string>
#include <vector>

struct nv_spiece {
    sentencepiece::SentencePieceProcessor processor;
};

static void say(char *why, size_t size, const char *reason) {
    if (size > 0) std::snprintf(why, size, "%s", reason);
}

nv_spiece *nv_spiece_create(const void *data, size_t size, char *why, size_t why_size) {
    nv_spiece *s = nullptr;
    try {
        s = new nv_spiece;
        const auto status =
            s->processor.LoadFromSerializedProto(absl::string_view(static_cast<const char *>(data), size));
        if (status.ok() && s->processor.GetPieceSize() > 0) return s;
        say(why, why_size, status.ok() ? "it has no pieces" : status.error_message());
    } catch (const std::exception &e) {
        say(why, why_size, e.what());
    } catch (...) {
        say(why, why_size, "unknown failure");
    }
    delete s;
    return nullptr;
}

void nv_spiece_destroy(nv_spiece *s) {
    delete s;
}

int32_t nv_spiece_count(const nv_spiece *s) {
    return s->processor.GetPieceSize();
}

int32_t nv_spiece_id(const nv_spiece *s, const char *piece) {
    try {
        const int id = s->processor.PieceToId(piece);
        return s->processor.IdToPiece(id) == piece ? id : -1; // what is not there comes back as unknown
    } catch (...) {
        return -1;
    }
}

int64_t nv_spiece_encode(const nv_spiece *s, const char *text, size_t size, int32_t *ids, int64_t most, char *why,
                         size_t why_size) {
    try {
        std::vector<int> all;
        const auto status = s->processor.Encode(absl::string_view(text, size), &all);
        if (!status.ok()) {
            say(why, why_size, status.error_message());
            return -1;
        }
        const int64_t count = static_cast<int64_t>(all.size());
        for (int64_t i = 0; i < count && i < most; i++)
            ids[i] = all[static_cast<size_t>(i)];
        return count;
    } catch (const std::exception &e) {
        say(why, why_size, e.what());
    } catch (...) {
        say(why, why_size, "unknown failure");
    }
    return -1;
}
