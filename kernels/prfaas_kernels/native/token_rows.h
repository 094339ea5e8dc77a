// Tokens of a cached tensor, dense or in pages.
#pragma once
#include <cstdint>

struct TokenRows {
    int64_t tokens, channels, first, page_tokens, page_stride, is_bf16;  // page_tokens: 0 if dense; strides in elements
    void* at;
    const int64_t* page_ids;

    template <class T>
    T* row(int64_t token) const {
        if (!page_tokens) return (T*)at + token * channels;
        const int64_t place = first + token;
        return (T*)at + page_ids[place / page_tokens] * page_stride + place % page_tokens * channels;
    }
};
