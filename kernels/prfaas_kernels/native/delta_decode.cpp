// One token of each of several sequences through all that a delta rule layer does between its projections: convolution,
// decays, write strengths, delta rule, gated norm. A task is one key head of one sequence, so no task waits for another.
#include "delta.h"

constexpr int64_t MIN_PARALLEL = 1 << 15;  // state elements below which waking other threads costs more than it gives
constexpr int64_t MAX_VALUE = 256;

struct DeltaDecode {
    int64_t sequences, key_heads, key, heads, value;
    int64_t channels, taps, gate_kind, is_bf16;               // decays per head, 1 or `key`; the type of what is void here
    int64_t qkv_stride, decay_stride, gate_stride, beta_stride;  // elements from one sequence to the next
    int64_t state_stride, conv_stride;                        // entries of a table from one sequence to the next
    int64_t conv_starts[3];                                   // where this rank's q, k and v lie in a cached input
    const void *qkv, *decay, *gate, *beta, *conv;             // conv [taps, channels of qkv]
    char* arena;                                              // holds what is kept, in rows
    const float *a_log, *dt_bias;                             // [heads], [heads * channels]
    Numbers norm;
    const int64_t *state_rows, *conv_rows;                    // [sequences, heads], [sequences, taps - 1]: bytes into it
    void* out;                                                // [sequences, heads * value]
    double eps;
};

// SiLU of `count` convolved channels of q, k or v (part 0, 1, 2); their cached inputs move on.
template <class T>
static void convolve(const DeltaDecode& a, int64_t sequence, int part, int64_t first, int64_t count, float* to) {
    const int64_t key_width = a.key_heads * a.key, width = 2 * key_width + a.heads * a.value;
    const int64_t at = part * key_width + first;
    const T *x = (const T*)a.qkv + sequence * a.qkv_stride + at, *weight = (const T*)a.conv + at;
    const int64_t* rows = a.conv_rows + sequence * a.conv_stride;
    const int64_t within = (a.conv_starts[part] + first) * (int64_t)sizeof(T);
    const auto cached = [&](int64_t tap) { return (T*)(a.arena + rows[tap] + within); };
    for (int64_t c = 0; c < count; c += LANES) {
        const int64_t left = count - c;
        const f32x16 newest = load_some(x + c, left);
        f32x16 total = {};
        for (int64_t tap = 0; tap + 1 < a.taps; ++tap) {
            const f32x16 input = load_some(cached(tap) + c, left);
            total += input * load_some(weight + tap * width + c, left);
            if (tap > 0) store_some(cached(tap - 1) + c, input, left);
        }
        total += newest * load_some(weight + (a.taps - 1) * width + c, left);
        if (a.taps > 1) store_some(cached(a.taps - 2) + c, newest, left);
        store_some(to + c, total * sigmoid(total), left);
    }
}

template <class T>
static void load_decays(const DeltaDecode& a, int64_t sequence, int64_t head, Token& t) {
    const int64_t start = head * a.channels;
    const T* x = (const T*)a.decay + sequence * a.decay_stride + start;
    const f32x16 rate = -exp(splat(a.a_log[head]));
    for (int64_t d = 0; d < a.key; d += LANES) {
        const int64_t left = a.key - d;
        const f32x16 raw = a.channels == 1 ? splat(load_one(x) + a.dt_bias[start])
                                           : load_some(x + d, left) + load_some(a.dt_bias + start + d, left);
        decay_key(t, d, exp(rate * softplus(raw)));
    }
}

// One head's state moves on by a token: in place where whole vectors fit, else by way of a copy. `v` becomes the output.
static void move_on(const DeltaDecode& a, const Token& t, float beta, float* state, float* v) {
    for (int64_t column = 0; column < a.value; column += TILE) {
        const int64_t width = a.value - column < TILE ? a.value - column : TILE;
        f32x16 in[VECTORS] = {}, out[VECTORS];
        for (int i = 0; i < VECTORS && i * LANES < width; ++i) in[i] = load_some(v + column + i * LANES, width - i * LANES);
        if (width == TILE && a.key % 2 == 0) {
            step(t, a.key, in, beta, state + column, a.value, out);
        } else {
            alignas(64) float tile[MAX_KEY + 1][TILE];
            load_tile(state + column, a.key, a.value, width, tile);
            step(t, a.key, in, beta, tile[0], TILE, out);
            store_tile(state + column, a.key, a.value, width, tile);
        }
        for (int i = 0; i < VECTORS && i * LANES < width; ++i)
            store_some(v + column + i * LANES, out[i], width - i * LANES);
    }
}

template <class T>
static void write_out(const DeltaDecode& a, int64_t sequence, int64_t head, const float* x) {
    const T* gate = (const T*)a.gate + sequence * a.gate_stride + head * a.value;
    T* out = (T*)a.out + (sequence * a.heads + head) * a.value;
    f32x16 squares = {};
    for (int64_t d = 0; d < a.value; d += LANES) {
        const f32x16 value = load_some(x + d, a.value - d);
        squares += value * value;
    }
    const float factor = 1 / __builtin_sqrtf(sum(squares) / a.value + (float)a.eps);
    for (int64_t d = 0; d < a.value; d += LANES) {
        const int64_t left = a.value - d;
        const f32x16 value = load_some(x + d, left) * (factor * a.norm.load_some(d, left));
        store_some(out + d, value * opened(load_some(gate + d, left), a.gate_kind), left);
    }
}

template <class T>
static void run(const DeltaDecode& a, int64_t sequence, int64_t key_head) {
    const int64_t shared = a.heads / a.key_heads;
    alignas(64) float x[MAX_KEY > MAX_VALUE ? MAX_KEY : MAX_VALUE];
    Token token;
    convolve<T>(a, sequence, 0, key_head * a.key, a.key, x);
    load_unit(x, a.key, 1 / __builtin_sqrtf(a.key), token.q);
    convolve<T>(a, sequence, 1, key_head * a.key, a.key, x);
    load_unit(x, a.key, 1, token.k);
    for (int64_t head = key_head * shared; head < (key_head + 1) * shared; ++head) {
        convolve<T>(a, sequence, 2, head * a.value, a.value, x);
        load_decays<T>(a, sequence, head, token);
        const float beta = sigmoid(splat(load_one((const T*)a.beta + sequence * a.beta_stride + head)))[0];
        move_on(a, token, beta, (float*)(a.arena + a.state_rows[sequence * a.state_stride + head]), x);
        write_out<T>(a, sequence, head, x);
    }
}

extern "C" void delta_decode(const DeltaDecode* args, int threads) {
    const DeltaDecode a = *args;
    const int64_t tasks = a.sequences * a.key_heads;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (a.sequences * a.heads * a.key * a.value > MIN_PARALLEL)
    for (int64_t task = 0; task < tasks; ++task)
        (a.is_bf16 ? run<bf16> : run<float>)(a, task / a.key_heads, task % a.key_heads);
}
