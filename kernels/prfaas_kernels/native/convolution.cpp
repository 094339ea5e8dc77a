// Causal depthwise convolution with SiLU: each output is summed over its taps in registers.
#include "vector.h"

constexpr int64_t MIN_PARALLEL = 1 << 14;  // outputs below which waking the other threads costs more than it gives
constexpr int64_t MAX_TAPS = 8;

struct Convolution {
    int64_t sequences, tokens, channels, taps, x_stride, state_stride, is_bf16;
    const void *x, *weight;  // weight [taps, channels]
    void *states, *out;      // states [sequences, taps - 1, channels]
};

template <class T>
static T* state_of(const Convolution& a, int64_t sequence) {
    return (T*)a.states + sequence * a.state_stride;
}

// The inputs at `token` of `sequence`, in the state if it lies before the first.
template <class T>
static const T* input(const Convolution& a, int64_t sequence, int64_t token) {
    if (token >= 0) return (const T*)a.x + (sequence * a.tokens + token) * a.x_stride;
    return state_of<T>(a, sequence) + (a.taps - 1 + token) * a.channels;
}

template <class T>
static f32x16 convolved(const Convolution& a, const T* const* inputs, int64_t c) {
    const int64_t left = a.channels - c;
    f32x16 total = {};
    for (int64_t tap = 0; tap < a.taps; ++tap)
        total += load_some((const T*)a.weight + tap * a.channels + c, left) * load_some(inputs[tap] + c, left);
    return total * sigmoid(total);
}

template <class T>
static void convolve(const Convolution& a, int64_t row) {
    const int64_t sequence = row / a.tokens, first = row % a.tokens - (a.taps - 1);
    const T* inputs[MAX_TAPS];
    for (int64_t tap = 0; tap < a.taps; ++tap) inputs[tap] = input<T>(a, sequence, first + tap);
    for (int64_t c = 0; c < a.channels; c += LANES)
        store_some((T*)a.out + row * a.channels + c, convolved(a, inputs, c), a.channels - c);
}

template <class T>
static void advance(const Convolution& a, int64_t sequence) {
    T* state = state_of<T>(a, sequence);
    for (int64_t i = 0; i < a.taps - 1; ++i)  // oldest first: what moves within the state moves towards its front
        memmove(state + i * a.channels, input<T>(a, sequence, a.tokens - (a.taps - 1) + i), a.channels * sizeof(T));
}

template <class T>
static void run(const Convolution& a, int threads) {
    const int64_t rows = a.sequences * a.tokens;
#pragma omp parallel for num_threads(threads) if (rows * a.channels > MIN_PARALLEL)
    for (int64_t row = 0; row < rows; ++row) convolve<T>(a, row);
    for (int64_t sequence = 0; sequence < a.sequences; ++sequence) advance<T>(a, sequence);
}

extern "C" void convolution(const Convolution* a, int threads) {
    if (a->is_bf16) run<bf16>(*a, threads);
    else run<float>(*a, threads);
}
