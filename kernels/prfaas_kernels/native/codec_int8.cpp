// What is cached as 8-bit multiples of a scale, by channel or by token.
#include <cstring>

#include "token_rows.h"

constexpr int64_t MIN_PARALLEL = 1 << 15;  // values below which waking the other threads costs more than it gives
constexpr int64_t SHARED = 64;             // tokens that share a channel's scale
constexpr int64_t GROUP = 128;             // channels that share a token's scale
constexpr int64_t TILE = 128;              // channels whose 64 tokens stay in the first-level cache
constexpr float LARGEST_CODE = 127, UNIT = 1 / LARGEST_CODE;

struct Int8 {
    TokenRows rows;
    float* scales;
    int8_t* codes;
};

static inline uint32_t magnitude(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}
static inline uint16_t magnitude(uint16_t bf16) { return bf16 & 0x7fff; }
static inline float widened(float x) { return x; }
static inline float widened(uint16_t bf16) {
    const uint32_t bits = (uint32_t)bf16 << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float widened(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline void narrow(float x, float* out) { *out = x; }
static inline void narrow(float x, uint16_t* out) {  // to nearest, ties to even; NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    *out = x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : 0x7fc0;
}

static inline int8_t code(float x, float factor) {
    float y = factor ? x * factor : 0;
    y = y < LARGEST_CODE ? y : LARGEST_CODE;
    y = y > -LARGEST_CODE ? y : -LARGEST_CODE;
    return (int8_t)(int32_t)__builtin_rintf(y);  // an addition that rounds would be fused with the product
}

// Scale and factor of values whose largest magnitude is `peak`: NaN and zero if that is no bf16.
static inline void scaled(float peak, float& scale, float& factor) {
    const bool small = peak < 0x1p-100f, whole = peak <= 0x1.fep127f;
    scale = small ? 0 : whole ? peak * UNIT : __builtin_nanf("");
    factor = whole && !small ? LARGEST_CODE / peak : 0;
}

template <class T>
static void encode_tile(const Int8& a, int64_t block, int64_t channel) {
    typedef decltype(magnitude(T{})) Bits;
    const int64_t from = block * SHARED, to = from + SHARED < a.rows.tokens ? from + SHARED : a.rows.tokens;
    const int64_t width = channel + TILE < a.rows.channels ? TILE : a.rows.channels - channel;
    Bits peaks[TILE] = {};
    float scales[TILE], factors[TILE];
    for (int64_t token = from; token < to; ++token) {
        const T* x = a.rows.row<const T>(token) + channel;
        for (int64_t c = 0; c < width; ++c) {
            const Bits bits = magnitude(x[c]);
            peaks[c] = bits > peaks[c] ? bits : peaks[c];
        }
    }
    for (int64_t c = 0; c < width; ++c) scaled(widened(peaks[c]), scales[c], factors[c]);
    memcpy(a.scales + block * a.rows.channels + channel, scales, width * sizeof(float));
    for (int64_t token = from; token < to; ++token) {
        const T* x = a.rows.row<const T>(token) + channel;
        int8_t* codes = a.codes + token * a.rows.channels + channel;
        for (int64_t c = 0; c < width; ++c) codes[c] = code(widened(x[c]), factors[c]);
    }
}

template <class T>
static void encode_channels(const Int8& a, int threads) {
    const int64_t tiles = (a.rows.channels + TILE - 1) / TILE, blocks = (a.rows.tokens + SHARED - 1) / SHARED;
#pragma omp parallel for num_threads(threads) if (a.rows.tokens * a.rows.channels > MIN_PARALLEL)
    for (int64_t i = 0; i < tiles * blocks; ++i) encode_tile<T>(a, i / tiles, i % tiles * TILE);
}

template <class T>
static void decode_channels(const Int8& a, int threads) {
    const int64_t channels = a.rows.channels;
#pragma omp parallel for num_threads(threads) if (a.rows.tokens * channels > MIN_PARALLEL)
    for (int64_t token = 0; token < a.rows.tokens; ++token) {
        T* out = a.rows.row<T>(token);
        const float* scales = a.scales + token / SHARED * channels;
        const int8_t* codes = a.codes + token * channels;
        for (int64_t c = 0; c < channels; ++c) narrow(codes[c] * scales[c], out + c);
    }
}

template <class T>
static void encode_group(const T* x, int64_t width, float* scale, int8_t* codes) {
    typedef decltype(magnitude(T{})) Bits;
    Bits peak = 0;
    float factor;
    for (int64_t c = 0; c < width; ++c) {
        const Bits bits = magnitude(x[c]);
        peak = bits > peak ? bits : peak;
    }
    scaled(widened(peak), *scale, factor);
    for (int64_t c = 0; c < width; ++c) codes[c] = code(widened(x[c]), factor);
}

template <class T>
static void encode_tokens(const Int8& a, int threads) {
    const int64_t channels = a.rows.channels, groups = (channels + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(threads) if (a.rows.tokens * channels > MIN_PARALLEL)
    for (int64_t token = 0; token < a.rows.tokens; ++token) {
        const T* x = a.rows.row<const T>(token);
        int8_t* codes = a.codes + token * channels;
        float* scales = a.scales + token * groups;
        const int64_t whole = channels / GROUP;
        for (int64_t g = 0; g < whole; ++g) encode_group(x + g * GROUP, GROUP, scales + g, codes + g * GROUP);
        if (whole < groups) {
            const int64_t c = whole * GROUP;
            encode_group(x + c, channels - c, scales + whole, codes + c);
        }
    }
}

template <class T>
static void decode_tokens(const Int8& a, int threads) {
    const int64_t channels = a.rows.channels, groups = (channels + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(threads) if (a.rows.tokens * channels > MIN_PARALLEL)
    for (int64_t token = 0; token < a.rows.tokens; ++token) {
        T* out = a.rows.row<T>(token);
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t from = g * GROUP, to = from + GROUP < channels ? from + GROUP : channels;
            const float scale = a.scales[token * groups + g];
            for (int64_t c = from; c < to; ++c) narrow(a.codes[token * channels + c] * scale, out + c);
        }
    }
}

extern "C" void encode_int8_channel(const Int8* a, int threads) {
    a->rows.is_bf16 ? encode_channels<uint16_t>(*a, threads) : encode_channels<float>(*a, threads);
}
extern "C" void decode_int8_channel(const Int8* a, int threads) {
    a->rows.is_bf16 ? decode_channels<uint16_t>(*a, threads) : decode_channels<float>(*a, threads);
}
extern "C" void encode_int8_token(const Int8* a, int threads) {
    a->rows.is_bf16 ? encode_tokens<uint16_t>(*a, threads) : encode_tokens<float>(*a, threads);
}
extern "C" void decode_int8_token(const Int8* a, int threads) {
    a->rows.is_bf16 ? decode_tokens<uint16_t>(*a, threads) : decode_tokens<float>(*a, threads);
}
