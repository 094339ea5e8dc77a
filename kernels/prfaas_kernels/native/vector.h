// Vectors of 16 floats that the compiler maps to whatever the processor has, and loads and stores of fp32 and bf16.
#pragma once
#include <cstdint>
#include <cstring>

typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));

struct bf16 { uint16_t bits; };

constexpr int64_t LANES = 16;

static inline f32x16 splat(float x) { return x - f32x16{}; }

static inline f32x16 load(const float* p) {
    f32x16 x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline f32x16 load(const bf16* p) {
    u16x16 x;
    memcpy(&x, p, sizeof x);
    return (f32x16)(__builtin_convertvector(x, u32x16) << 16);
}

static inline void store(float* p, f32x16 x) { memcpy(p, &x, sizeof x); }

static inline void store(bf16* p, f32x16 x) {  // to nearest, ties to even; NaN stays NaN
    u32x16 bits = (u32x16)x;
    u32x16 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    u16x16 narrow = __builtin_convertvector(x == x ? rounded : u32x16{} + 0x7fc0, u16x16);
    memcpy(p, &narrow, sizeof narrow);
}

template <class T>
static inline f32x16 load_part(const T* p, int64_t count) {
    T lanes[LANES] = {};
    memcpy(lanes, p, count * sizeof(T));
    return load(lanes);
}

template <class T>
static inline void store_part(T* p, f32x16 x, int64_t count) {
    T lanes[LANES];
    store(lanes, x);
    memcpy(p, lanes, count * sizeof(T));
}

template <class T>
static inline f32x16 load_some(const T* p, int64_t count) { return count >= LANES ? load(p) : load_part(p, count); }

template <class T>
static inline void store_some(T* p, f32x16 x, int64_t count) {
    if (count >= LANES) store(p, x);
    else store_part(p, x, count);
}

template <class T>
static inline float load_one(const T* p) { return load_part(p, 1)[0]; }

// Numbers whose type is known only at run time.
struct Numbers {
    const void* at;
    int64_t is_bf16;

    f32x16 load_some(int64_t i, int64_t count) const {
        return is_bf16 ? ::load_some((const bf16*)at + i, count) : ::load_some((const float*)at + i, count);
    }

    void store_some(int64_t i, f32x16 x, int64_t count) const {
        if (is_bf16) ::store_some((bf16*)at + i, x, count);
        else ::store_some((float*)at + i, x, count);
    }
};

static inline float sum(f32x16 x) {
    typedef float f32x8 __attribute__((vector_size(32)));
    typedef float f32x4 __attribute__((vector_size(16)));
    f32x8 halves[2];
    memcpy(halves, &x, sizeof x);
    f32x8 eight = halves[0] + halves[1];
    f32x4 quarters[2];
    memcpy(quarters, &eight, sizeof eight);
    f32x4 four = quarters[0] + quarters[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

template <int width>
static inline f32x16 fold(f32x16 x, f32x16 y) {  // within blocks of 2 * width lanes: x's halves added, then y's
    i32x16 low, high;
    for (int lane = 0; lane < LANES; ++lane) {
        low[lane] = lane / (2 * width) * 2 * width + lane % width + (lane / width % 2 ? LANES : 0);
        high[lane] = low[lane] + width;
    }
    return __builtin_shuffle(x, y, low) + __builtin_shuffle(x, y, high);
}

// Lane i: the sum of all lanes of x[i].
static inline f32x16 sums(const f32x16 (&x)[LANES]) {
    f32x16 eight[8], four[4], two[2];
    for (int i = 0; i < 8; ++i) eight[i] = fold<8>(x[i], x[i + 8]);
    for (int i = 0; i < 4; ++i) four[i] = fold<4>(eight[i], eight[i + 4]);
    for (int i = 0; i < 2; ++i) two[i] = fold<2>(four[i], four[i + 2]);
    return fold<1>(two[0], two[1]);
}

// Cephes' expf: relative error 2e-7; 0 below -87, 2^127 above 88.
static inline f32x16 exp(f32x16 x) {
    x = x < splat(88.0f) ? x : x != x ? x : splat(88.0f);
    f32x16 clamped = x > splat(-87.0f) ? x : x != x ? x : splat(-87.0f);
    f32x16 shifted = clamped * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
    f32x16 n = shifted - 12582912.0f;
    f32x16 r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    f32x16 p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    f32x16 scale = (f32x16)(((i32x16)shifted << 23) + (127 << 23));
    f32x16 result = p * scale;
    return x < splat(-87.0f) ? f32x16{} : result;
}

static inline f32x16 sigmoid(f32x16 x) { return 1.0f / (1.0f + exp(-x)); }

enum Gate { NONE, SIGMOID, SILU };

static inline f32x16 opened(f32x16 gate, int64_t kind) { return kind == SILU ? gate * sigmoid(gate) : sigmoid(gate); }

// log(1 + u) for u in [0, 1] as 2 atanh(u / (2 + u)), whose series keeps the precision of a small u.
static inline f32x16 log1p(f32x16 u) {
    const f32x16 s = u / (2.0f + u), square = s * s;
    f32x16 p = splat(1.0f / 17);
    for (int odd = 15; odd > 0; odd -= 2) p = p * square + 1.0f / odd;
    return 2.0f * s * p;
}

static inline f32x16 softplus(f32x16 x) {
    const f32x16 positive = x > f32x16{} ? x : x != x ? x : f32x16{};
    return positive + log1p(exp(x > f32x16{} ? -x : x));
}
