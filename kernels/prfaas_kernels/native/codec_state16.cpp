// Rows of fp32 states as fp16 multiples of a power of two of each row.
#include <cstdint>
#include <cstring>

constexpr int64_t MIN_PARALLEL = 1 << 15;  // values below which waking the other threads costs more than it gives
constexpr uint32_t INFINITE = 0x7f800000;

struct State16 {
    int64_t rows, width;
    char* at;                // dense, or an arena
    const int64_t* offsets;  // bytes of an arena, or null
    float* units;
    uint16_t* halves;  // [rows, width]

    float* row(int64_t i) const { return (float*)(at + (offsets ? offsets[i] : i * width * (int64_t)sizeof(float))); }
};

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// The fp16 nearest to |x| < 2^16, ties to even. Below 2^-14, where fp16 is subnormal, adding 0.5 rounds to its step.
static inline uint16_t half_of(float x) {
    const uint32_t sign = bits_of(x) >> 16 & 0x8000, size = bits_of(x) & 0x7fffffff;
    const uint32_t normal = ((size + 0xfff + (size >> 13 & 1)) >> 13) - (112 << 10);
    const uint32_t small = bits_of(of_bits(size) + 0.5f) - bits_of(0.5f);
    return (uint16_t)(sign | (size < bits_of(0x1p-14f) ? small : normal));
}

static inline float widened(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, size = half & 0x7fff;
    const uint32_t large = (size << 13) + (112 << 23) + (size < 0x7c00 ? 0 : 112 << 23);  // infinity and NaN stay
    const uint32_t small = bits_of((float)(int32_t)size * 0x1p-24f);
    const uint32_t is_small = -(uint32_t)(size < 0x400);  // not a choice, which would keep loops from being vectors
    return of_bits(sign | (small & is_small) | (large & ~is_small));
}

static void encode_row(const State16& a, int64_t row) {
    const float* x = a.row(row);
    uint16_t* out = a.halves + row * a.width;
    uint32_t peak = 0;
    for (int64_t i = 0; i < a.width; ++i) {
        const uint32_t size = bits_of(x[i]) & 0x7fffffff;
        peak = size > peak ? size : peak;
    }
    const int32_t wanted = 141 - (int32_t)(peak >> 23), shift = wanted < 126 ? wanted : 126;
    const bool finite = peak < INFINITE;
    const float unit = finite ? of_bits((uint32_t)(127 - shift) << 23) : __builtin_nanf("");
    memcpy(a.units + row, &unit, sizeof unit);
    if (!finite) {
        memset(out, 0, a.width * sizeof *out);
        return;
    }
    const float factor = of_bits((uint32_t)(127 + shift) << 23);
    for (int64_t i = 0; i < a.width; ++i) out[i] = half_of(x[i] * factor);
}

extern "C" void encode_state16(const State16* a, int threads) {
#pragma omp parallel for num_threads(threads) if (a->rows * a->width > MIN_PARALLEL)
    for (int64_t row = 0; row < a->rows; ++row) encode_row(*a, row);
}

extern "C" void decode_state16(const State16* a, int threads) {
#pragma omp parallel for num_threads(threads) if (a->rows * a->width > MIN_PARALLEL)
    for (int64_t row = 0; row < a->rows; ++row) {
        float unit;
        memcpy(&unit, a->units + row, sizeof unit);
        const uint16_t* halves = a->halves + row * a->width;
        float* out = a->row(row);
        for (int64_t i = 0; i < a->width; ++i) out[i] = widened(halves[i]) * unit;
    }
}
