// SwiGLU experts for a few tokens: each weight is read once, by whichever thread, and meets all tokens that chose it.
#include "vector.h"

constexpr int64_t OUTPUTS = 4;  // rows of a weight multiplied together, so that an input is loaded once for them
constexpr int64_t TOKENS = 4;   // inputs multiplied together
constexpr int64_t BLOCK = 16;   // outputs that a thread takes at a time

struct Experts {
    int64_t choices, top_k, experts, hidden, inner, is_bf16;
    const void *x, *gate_up, *down;  // [T, hidden], [experts, 2 inner, hidden], [experts, hidden, inner]
    const float* weights;            // [T, top_k]
    const int64_t* order;            // [choices] of token and rank, grouped by expert
    const int64_t* starts;           // [experts + 1] where each expert's choices begin in `order`
    float *wide, *middle, *sums;     // scratch: [T, hidden], [choices, inner], [T, hidden]
    void* out;                       // [T, hidden]
};

// Dot products of OUTPUTS rows of `weight` with `count` inputs, out[output][input].
template <class T, int count>
static void dots(const T* weight, int64_t size, const float* const* inputs, float (*out)[TOKENS]) {
    f32x16 total[OUTPUTS][count] = {};
    for (int64_t d = 0; d < size; d += LANES) {
        f32x16 x[count];
        for (int i = 0; i < count; ++i) x[i] = load(inputs[i] + d);
        for (int o = 0; o < OUTPUTS; ++o) {
            const T* at = weight + o * size + d;
            __builtin_prefetch(at + OUTPUTS * size);  // rows are short: processors see no stream to follow
            const f32x16 w = load(at);
            for (int i = 0; i < count; ++i) total[o][i] += w * x[i];
        }
    }
    for (int o = 0; o < OUTPUTS; ++o)
        for (int i = 0; i < count; ++i) out[o][i] = sum(total[o][i]);
}

template <class T>
static void dots(const T* weight, int64_t size, const float* const* inputs, int64_t count, float (*out)[TOKENS]) {
    switch (count) {
        case 1: return dots<T, 1>(weight, size, inputs, out);
        case 2: return dots<T, 2>(weight, size, inputs, out);
        case 3: return dots<T, 3>(weight, size, inputs, out);
        default: return dots<T, 4>(weight, size, inputs, out);
    }
}

// Calls use(choice, output, dot) for OUTPUTS rows of `weight` from `first` on and all choices of `expert`.
template <class T, class Use>
static void multiply(const Experts& a, int64_t expert, const T* weight, int64_t size, const float* inputs,
                     bool by_token, Use use) {
    for (int64_t start = a.starts[expert]; start < a.starts[expert + 1]; start += TOKENS) {
        const int64_t left = a.starts[expert + 1] - start, count = left < TOKENS ? left : TOKENS;
        const float* rows[TOKENS];
        float found[OUTPUTS][TOKENS];
        for (int64_t i = 0; i < count; ++i) {
            const int64_t choice = a.order[start + i];
            rows[i] = inputs + (by_token ? choice / a.top_k : choice) * size;
        }
        dots(weight, size, rows, count, found);
        for (int64_t o = 0; o < OUTPUTS; ++o)
            for (int64_t i = 0; i < count; ++i) use(a.order[start + i], o, found[o][i]);
    }
}

template <class T>
static void gates(const Experts& a, int64_t expert, int64_t first) {
    const T* gate = (const T*)a.gate_up + (expert * 2 * a.inner + first) * a.hidden;
    float* middle = a.middle + first;
    for (int64_t i = 0; i < BLOCK; i += OUTPUTS) {
        multiply(a, expert, gate + i * a.hidden, a.hidden, a.wide, true,
                 [&](int64_t choice, int64_t o, float dot) { middle[choice * a.inner + i + o] = dot; });
        multiply(a, expert, gate + (a.inner + i) * a.hidden, a.hidden, a.wide, true,
                 [&](int64_t choice, int64_t o, float dot) {
                     float& g = middle[choice * a.inner + i + o];
                     g = dot * g * sigmoid(splat(g))[0];
                 });
    }
}

template <class T>
static void outputs(const Experts& a, int64_t first) {
    for (int64_t expert = 0; expert < a.experts; ++expert)
        for (int64_t i = first; i < first + BLOCK; i += OUTPUTS)
            multiply(a, expert, (const T*)a.down + (expert * a.hidden + i) * a.inner, a.inner, a.middle, false,
                     [&](int64_t choice, int64_t o, float dot) {
                         a.sums[choice / a.top_k * a.hidden + i + o] += a.weights[choice] * dot;
                     });
    for (int64_t token = 0; token < a.choices / a.top_k; ++token) {
        const int64_t at = token * a.hidden + first;
        store((T*)a.out + at, load(a.sums + at));
    }
}

template <class T>
static void run(const Experts& a, int threads) {
    const int64_t size = a.choices / a.top_k * a.hidden, blocks = a.inner / BLOCK;
    for (int64_t i = 0; i < size; i += LANES) {
        store(a.wide + i, load((const T*)a.x + i));
        store(a.sums + i, f32x16{});
    }
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(dynamic, 4)
        for (int64_t task = 0; task < a.experts * blocks; ++task) gates<T>(a, task / blocks, task % blocks * BLOCK);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < a.hidden; first += BLOCK) outputs<T>(a, first);
    }
}

extern "C" void experts(const Experts* a, int threads) {
    if (a->is_bf16) run<bf16>(*a, threads);
    else run<float>(*a, threads);
}
