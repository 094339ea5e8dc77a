// The delta rule's step on one token and a tile of the state; knows nothing of where inputs and states lie.
#pragma once
#include "vector.h"

constexpr int64_t TILE = 64;  // columns of the state worked on at once
constexpr int64_t VECTORS = TILE / LANES;
constexpr int64_t MAX_KEY = 256;

struct Token {
    alignas(64) float q[MAX_KEY], k[MAX_KEY], decay[MAX_KEY], decayed_k[MAX_KEY];
};

// `scale` times a vector of length 1 in the direction of `from`.
template <class T>
static inline void load_unit(const T* from, int64_t size, float scale, float* to) {
    f32x16 squares = {};
    for (int64_t d = 0; d < size; d += LANES) {
        f32x16 x = load_some(from + d, size - d);
        squares += x * x;
        store(to + d, x);
    }
    float factor = scale / __builtin_sqrtf(sum(squares) + 1e-6f);
    for (int64_t d = 0; d < size; d += LANES) store(to + d, load(to + d) * factor);
}

static inline void decay_key(Token& t, int64_t d, f32x16 decay) {
    store(t.decay + d, decay);
    store(t.decayed_k + d, load(t.k + d) * decay);
}

// Copies `width` columns of a state with rows of `stride`, and zeros to the right of them and below.
static inline void load_tile(const float* home, int64_t key, int64_t stride, int64_t width, float (*tile)[TILE]) {
    memset(tile[key], 0, sizeof tile[0]);
    for (int64_t d = 0; d < key; ++d)
        for (int64_t i = 0; i < TILE; i += LANES)
            store(&tile[d][i], i < width ? load_some(home + d * stride + i, width - i) : f32x16{});
}

static inline void store_tile(float* home, int64_t key, int64_t stride, int64_t width, const float (*tile)[TILE]) {
    for (int64_t d = 0; d < key; ++d)
        for (int64_t i = 0; i < width; i += LANES) store_some(home + d * stride + i, load(&tile[d][i]), width - i);
}

// Moves a tile of `key` rows on by a token, and reads it out.
static inline void step(const Token& t, int64_t key, const f32x16* v, float beta, float* __restrict state,
                        int64_t stride, f32x16* out) {
    f32x16 recalled[2][VECTORS] = {}, written[VECTORS], read[2][VECTORS] = {};
    for (int64_t d = 0; d < key; d += 2)  // two sums each, or latency would bound the loop; rows past an odd key are 0
        for (int half = 0; half < 2; ++half) {
            const f32x16 k = splat(t.decayed_k[d + half]);
            for (int i = 0; i < VECTORS; ++i) recalled[half][i] += k * load(state + (d + half) * stride + i * LANES);
        }
    for (int i = 0; i < VECTORS; ++i) written[i] = beta * (v[i] - (recalled[0][i] + recalled[1][i]));
    for (int64_t d = 0; d < key; d += 2)
        for (int half = 0; half < 2; ++half) {
            const f32x16 decay = splat(t.decay[d + half]), k = splat(t.k[d + half]), q = splat(t.q[d + half]);
            for (int i = 0; i < VECTORS; ++i) {
                const f32x16 next = decay * load(state + (d + half) * stride + i * LANES) + k * written[i];
                store(state + (d + half) * stride + i * LANES, next);
                read[half][i] += q * next;
            }
        }
    for (int i = 0; i < VECTORS; ++i) out[i] = read[0][i] + read[1][i];
}
