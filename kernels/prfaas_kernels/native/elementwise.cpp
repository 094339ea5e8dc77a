// Norms, gates and decays: one pass over rows, in fp32 whatever the input.
#include "vector.h"

constexpr int64_t MIN_PARALLEL = 1 << 15;  // elements below which waking the other threads costs more than it gives

struct Norm {
    int64_t rows, parts, width, x_stride, gate_stride;  // a row has `parts` of `width` elements, each normalised
    Numbers x, residual, weight, gate, out;      // residual: null, or what is added to x first and holds the sum then
    float eps;
    int32_t gate_kind;
};

static void norm_part(const Norm& a, int64_t row, int64_t part) {
    const int64_t start = part * a.width, x = row * a.x_stride + start, gate = row * a.gate_stride + start;
    const int64_t out = row * a.parts * a.width + start;
    f32x16 squares = {};
    for (int64_t d = 0; d < a.width; d += LANES) {
        f32x16 value = a.x.load_some(x + d, a.width - d);
        if (a.residual.at) {
            a.residual.store_some(out + d, value + a.residual.load_some(out + d, a.width - d), a.width - d);
            value = a.residual.load_some(out + d, a.width - d);  // rounded: what the next layer adds to
        }
        squares += value * value;
    }
    const float factor = 1 / __builtin_sqrtf(sum(squares) / a.width + a.eps);
    for (int64_t d = 0; d < a.width; d += LANES) {
        const int64_t left = a.width - d;
        f32x16 value = a.residual.at ? a.residual.load_some(out + d, left) : a.x.load_some(x + d, left);
        value *= factor * a.weight.load_some(d, left);
        if (a.gate_kind != NONE) {
            value *= opened(a.gate.load_some(gate + d, left), a.gate_kind);
        }
        a.out.store_some(out + d, value, left);
    }
}

extern "C" void norm(const Norm* a, int threads) {
#pragma omp parallel for num_threads(threads) if (a->rows * a->parts * a->width > MIN_PARALLEL)
    for (int64_t row = 0; row < a->rows; ++row)
        for (int64_t part = 0; part < a->parts; ++part) norm_part(*a, row, part);
}

struct SiluMul {
    int64_t rows, width, stride;
    Numbers gate_up, out;
};

extern "C" void silu_mul(const SiluMul* a, int threads) {
#pragma omp parallel for num_threads(threads) if (a->rows * a->width > MIN_PARALLEL)
    for (int64_t row = 0; row < a->rows; ++row)
        for (int64_t d = 0; d < a->width; d += LANES) {
            const int64_t left = a->width - d, gate = row * a->stride + d;
            f32x16 g = a->gate_up.load_some(gate, left);
            a->out.store_some(row * a->width + d, g * sigmoid(g) * a->gate_up.load_some(gate + a->width, left), left);
        }
}

struct LogDecay {
    int64_t rows, heads, channels, stride;  // channels: of each head
    Numbers x;
    const float *rate, *bias;               // [heads], [heads * channels]
    float* out;
};

extern "C" void log_decay(const LogDecay* a, int threads) {
    const int64_t width = a->heads * a->channels;
#pragma omp parallel for num_threads(threads) if (a->rows * width > MIN_PARALLEL)
    for (int64_t row = 0; row < a->rows; ++row)
        for (int64_t head = 0; head < a->heads; ++head)
            for (int64_t d = 0; d < a->channels; d += LANES) {
                const int64_t at = head * a->channels + d, left = a->channels - d;
                f32x16 x = a->x.load_some(row * a->stride + at, left) + load_some(a->bias + at, left);
                store_some(a->out + row * width + at, -a->rate[head] * softplus(x), left);
            }
}
