// Attention of a few queries over some tokens by online softmax; knows nothing of where tokens lie or come from.
#pragma once
#include "vector.h"

constexpr int64_t BLOCK = 64;  // tokens whose scores are held at once
constexpr float LOWEST = -__builtin_inff();

// Where the keys and values of some tokens lie, of one head.
template <class T>
struct Tokens {
    int64_t count;
    const T *keys[BLOCK], *values[BLOCK];
};

// The result over the tokens so far, of one query.
struct Mix {
    float* values;  // [value], divided by nothing yet
    float *peak, *total;
};

// Lane q * (LANES / count) + t: the product of query q with key t.
template <int count, class T>
static inline f32x16 dots(const float* const* queries, const T* const* keys, int64_t size) {
    constexpr int64_t tokens = LANES / count;
    f32x16 total[LANES] = {};
    int64_t d = 0;
    for (; d + LANES <= size; d += LANES)
        for (int64_t t = 0; t < tokens; ++t) {
            const f32x16 key = load(keys[t] + d);
            for (int64_t q = 0; q < count; ++q) total[q * tokens + t] += load(queries[q] + d) * key;
        }
    for (int64_t t = 0; d < size && t < tokens; ++t) {
        const f32x16 key = load_part(keys[t] + d, size - d);
        for (int64_t q = 0; q < count; ++q) total[q * tokens + t] += load(queries[q] + d) * key;
    }
    return sums(total);
}

// Tokens lie a row of all heads apart, in pages: processors see no stream to follow.
template <class T>
static inline void prefetch(const T* at, int64_t size) {
    for (int64_t i = 0; i < size; i += 64 / (int64_t)sizeof(T)) __builtin_prefetch(at + i);
}

// Scores of some tokens, and minus infinity up to the next multiple of LANES. Meanwhile their values may be fetched.
template <int count, class T>
static void score(const float* const* queries, const Tokens<T>& now, int64_t key_size, int64_t value_size, bool fetch,
                  float (*scores)[BLOCK]) {
    constexpr int64_t tokens = LANES / count;
    const int64_t length = now.count;
    for (int64_t start = 0; start < length; start += tokens) {
        const T* some[tokens];
        for (int64_t t = 0; t < tokens; ++t) some[t] = now.keys[start + t < length ? start + t : length - 1];
        for (int64_t t = start; fetch && t < start + tokens && t < length; ++t) prefetch(now.values[t], value_size);
        float found[LANES];
        store(found, dots<count>(queries, some, key_size));
        for (int64_t q = 0; q < count; ++q) memcpy(scores[q] + start, found + q * tokens, tokens * sizeof(float));
    }
    for (int64_t q = 0; q < count; ++q)
        for (int64_t t = length; t < (length + LANES - 1) / LANES * LANES; ++t) scores[q][t] = LOWEST;
}

// Turns scores into weights relative to a query's peak so far; returns what older weights shrink by.
static inline float weigh(float* scores, int64_t length, const Mix& mix) {
    f32x16 peaks = splat(*mix.peak);
    for (int64_t t = 0; t < length; t += LANES) {
        const f32x16 x = load(scores + t);
        peaks = x > peaks ? x : peaks;
    }
    float peak = peaks[0];
    for (int64_t lane = 1; lane < LANES; ++lane) peak = peaks[lane] > peak ? peaks[lane] : peak;
    f32x16 total = {};
    for (int64_t t = 0; t < length; t += LANES) {
        const f32x16 weight = exp(load(scores + t) - peak);
        store(scores + t, weight);
        total += weight;
    }
    const float keep = exp(splat(*mix.peak - peak))[0];
    *mix.total = *mix.total * keep + sum(total);
    *mix.peak = peak;
    return keep;
}

// Adds the weighted values of `length` tokens, `vectors` vectors of them from channel d on, the last one `last` wide.
// Asks for the same channels of `fetched`, if given, token by token: asked for at once, a processor would stall.
template <int count, int vectors, class T>
static inline void add_values(const float (*weights)[BLOCK], const float* keep, const T* const* values, int64_t length,
                              int64_t d, int64_t last, const T* const* fetched, const Mix* mixes) {
    f32x16 total[count][vectors];
    for (int q = 0; q < count; ++q)
        for (int i = 0; i < vectors; ++i) {
            const float* old = mixes[q].values + d + i * LANES;
            total[q][i] = keep[q] * (i + 1 < vectors ? load(old) : load_some(old, last));
        }
    for (int64_t t = 0; t < length; ++t) {
        if (fetched) prefetch(fetched[t] + d, vectors * LANES);
        for (int i = 0; i < vectors; ++i) {
            const T* at = values[t] + d + i * LANES;
            const f32x16 value = i + 1 < vectors ? load(at) : load_some(at, last);
            for (int q = 0; q < count; ++q) total[q][i] += weights[q][t] * value;
        }
    }
    for (int q = 0; q < count; ++q)
        for (int i = 0; i < vectors; ++i) {
            float* to = mixes[q].values + d + i * LANES;
            if (i + 1 < vectors) store(to, total[q][i]);
            else store_some(to, total[q][i], last);
        }
}

// Lets `count` queries attend to more tokens. `next`, if given, come after these: their keys are fetched meanwhile.
template <int count, class T>
static void attend(const float* const* queries, const Tokens<T>& now, const Tokens<T>* next, int64_t key_size,
                   int64_t value_size, const Mix* mixes) {
    alignas(64) float scores[count][BLOCK];
    float keep[count];
    score<count>(queries, now, key_size, value_size, next != nullptr, scores);
    for (int q = 0; q < count; ++q) keep[q] = weigh(scores[q], now.count, mixes[q]);
    const T* const* fetched = next && next->count >= now.count ? next->keys : nullptr;
    int64_t d = 0;
    for (; d + 4 * LANES <= value_size; d += 4 * LANES)
        add_values<count, 4>(scores, keep, now.values, now.count, d, LANES, fetched, mixes);
    for (; d < value_size; d += LANES)
        add_values<count, 1>(scores, keep, now.values, now.count, d, value_size - d, fetched, mixes);
}

template <class T>
static void attend(const float* const* queries, int64_t count, const Tokens<T>& now, const Tokens<T>& next,
                   int64_t key_size, int64_t value_size, const Mix* mixes) {
    for (int64_t q = 0; q < count;) {
        const int64_t left = count - q;
        const Tokens<T>* ahead = q == 0 ? &next : nullptr;
        if (left >= 4) attend<4>(queries + q, now, ahead, key_size, value_size, mixes + q), q += 4;
        else if (left >= 2) attend<2>(queries + q, now, ahead, key_size, value_size, mixes + q), q += 2;
        else attend<1>(queries + q, now, ahead, key_size, value_size, mixes + q), q += 1;
    }
}
