// The delta rule with decay, token by token: a tile of the state stays in the first-level cache for a whole sequence.
// One kernel serves prefill (many tokens of one sequence) and decode (one token of many), decay per head or per channel.
#include "delta.h"

constexpr int64_t AHEAD = 8;  // tokens

struct Delta {
    int64_t sequences, tokens, key_heads, key, heads, value;
    int64_t channels, is_bf16;                           // log decays per head, 1 or `key`; the type of q, k and v
    int64_t q_stride, k_stride, v_stride, state_stride;  // elements from one token, or sequence, to the next
    const void *q, *k, *v;
    const float *log_decay, *beta;
    float* states;
    float* out;
};

// Heads lie side by side in a row, so that one head's tokens are far apart: further than processors look ahead.
template <class T>
static void prefetch(const T* at, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / (int64_t)sizeof(T)) __builtin_prefetch(at + i);
}

template <class T>
static void load_token(const Delta& a, int64_t row, int64_t head, Token& t) {
    int64_t key_head = head / (a.heads / a.key_heads);
    const T* q = (const T*)a.q + row * a.q_stride + key_head * a.key;
    const T* k = (const T*)a.k + row * a.k_stride + key_head * a.key;
    const float* log_decay = a.log_decay + (row * a.heads + head) * a.channels;
    prefetch(q + AHEAD * a.q_stride, a.key);
    prefetch(k + AHEAD * a.k_stride, a.key);
    prefetch(log_decay + AHEAD * a.heads * a.channels, a.channels);
    load_unit(q, a.key, 1 / __builtin_sqrtf(a.key), t.q);
    load_unit(k, a.key, 1, t.k);
    f32x16 common = exp(splat(log_decay[0]));
    for (int64_t d = 0; d < a.key; d += LANES)
        decay_key(t, d, a.channels == 1 ? common : exp(load_some(log_decay + d, a.key - d)));
}

template <class T>
static void run_tile(const Delta& a, int64_t sequence, int64_t head, int64_t column) {
    int64_t width = a.value - column < TILE ? a.value - column : TILE;
    float* home = a.states + sequence * a.state_stride + head * a.key * a.value + column;
    alignas(64) float state[MAX_KEY + 1][TILE];
    load_tile(home, a.key, a.value, width, state);
    Token token;
    for (int64_t row = sequence * a.tokens; row < (sequence + 1) * a.tokens; ++row) {
        load_token<T>(a, row, head, token);
        const T* from = (const T*)a.v + row * a.v_stride + head * a.value + column;
        float* to = a.out + (row * a.heads + head) * a.value + column;
        prefetch(from + AHEAD * a.v_stride, width);
        f32x16 v[VECTORS] = {}, out[VECTORS];
        for (int i = 0; i < VECTORS && i * LANES < width; ++i) v[i] = load_some(from + i * LANES, width - i * LANES);
        step(token, a.key, v, a.beta[row * a.heads + head], state[0], TILE, out);
        for (int i = 0; i < VECTORS && i * LANES < width; ++i) store_some(to + i * LANES, out[i], width - i * LANES);
    }
    store_tile(home, a.key, a.value, width, state);
}

extern "C" void delta_rule(const Delta* args, int threads) {
    const Delta a = *args;
    int64_t tiles = (a.value + TILE - 1) / TILE, tasks = a.sequences * a.heads * tiles;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) {
        int64_t column = task % tiles * TILE, head = task / tiles % a.heads, sequence = task / tiles / a.heads;
        (a.is_bf16 ? run_tile<bf16> : run_tile<float>)(a, sequence, head, column);
    }
}
