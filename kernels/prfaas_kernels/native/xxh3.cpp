// XXH3, 64 bits, of bytes that lie in several places, as if they lay one behind the other. Seed 0; more than 240 bytes.
// The algorithm is specified at github.com/Cyan4973/xxHash (doc/xxhash_spec.md); the names here are the specification's.
#include <cstdint>
#include <cstring>

namespace {

typedef uint64_t u64x8 __attribute__((vector_size(64)));
typedef int64_t i64x8 __attribute__((vector_size(64)));

constexpr int64_t STRIPE = 64, SECRET = 192, STRIPES_PER_BLOCK = (SECRET - STRIPE) / 8;
constexpr int64_t MERGE_AT = 11, LAST_AT = SECRET - STRIPE - 7;
constexpr uint64_t PRIME32_1 = 0x9E3779B1, PRIME32_2 = 0x85EBCA77, PRIME32_3 = 0xC2B2AE3D;
constexpr uint64_t PRIME64_1 = 0x9E3779B185EBCA87, PRIME64_2 = 0xC2B2AE3D27D4EB4F, PRIME64_3 = 0x165667B19E3779F9;
constexpr uint64_t PRIME64_4 = 0x85EBCA77C2B2AE63, PRIME64_5 = 0x27D4EB2F165667C5, PRIME_MX = 0x165667919E3779F9;

const uint8_t SECRET_BYTES[SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
    0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
    0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
    0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
    0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
    0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
    0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
    0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
    0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
    0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
    0x40, 0x7e};

template <class T>
T at(const uint8_t* p) {
    T value;
    memcpy(&value, p, sizeof value);
    return value;
}

void accumulate(u64x8& acc, const uint8_t* stripe, const uint8_t* secret) {
    const u64x8 data = at<u64x8>(stripe), key = data ^ at<u64x8>(secret);
    acc += __builtin_shuffle(data, i64x8{1, 0, 3, 2, 5, 4, 7, 6}) + (key & 0xffffffff) * (key >> 32);
}

void scramble(u64x8& acc) {
    acc = (acc ^ (acc >> 47) ^ at<u64x8>(SECRET_BYTES + SECRET - STRIPE)) * PRIME32_1;
}

uint64_t folded(uint64_t a, uint64_t b) {
    const unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t merged(const u64x8& acc, uint64_t length) {
    uint64_t result = length * PRIME64_1;
    for (int i = 0; i < 4; ++i) {
        const uint8_t* secret = SECRET_BYTES + MERGE_AT + 16 * i;
        result += folded(acc[2 * i] ^ at<uint64_t>(secret), acc[2 * i + 1] ^ at<uint64_t>(secret + 8));
    }
    result = (result ^ (result >> 37)) * PRIME_MX;
    return result ^ (result >> 32);
}

// The parts as one run of bytes.
struct Parts {
    const uint8_t* const* starts;
    const int64_t* lengths;
    int64_t part = 0, offset = 0;

    // Bytes that lie together from here on.
    int64_t together() {
        while (offset == lengths[part]) ++part, offset = 0;
        return lengths[part] - offset;
    }

    // The next `count` bytes, through `room` where they do not lie together; they are behind us then.
    const uint8_t* take(int64_t count, uint8_t* room) {
        if (together() >= count) {
            const uint8_t* found = starts[part] + offset;
            offset += count;
            return found;
        }
        for (int64_t done = 0; done < count;) {
            const int64_t here = together(), some = here < count - done ? here : count - done;
            memcpy(room + done, starts[part] + offset, some);
            offset += some;
            done += some;
        }
        return room;
    }
};

}  // namespace

struct Xxh3 {
    const uint8_t* const* starts;
    const int64_t* lengths;
    int64_t total;
    uint64_t* result;
};

extern "C" void xxh3_64(const Xxh3* a, int) {
    u64x8 acc = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    Parts parts{a->starts, a->lengths};
    uint8_t room[STRIPE], last[2 * STRIPE];
    // The last stripe are the last 64 bytes, of which those before may have a part too.
    const int64_t stripes = (a->total - 1) / STRIPE;
    const uint8_t* stripe = nullptr;
    for (int64_t i = 0; i < stripes; ++i) {
        stripe = parts.take(STRIPE, room);
        accumulate(acc, stripe, SECRET_BYTES + 8 * (i % STRIPES_PER_BLOCK));
        if (i % STRIPES_PER_BLOCK == STRIPES_PER_BLOCK - 1) scramble(acc);
    }
    memcpy(last, stripe, STRIPE);
    const int64_t left = a->total - stripes * STRIPE;
    memcpy(last + STRIPE, parts.take(left, room), left);
    accumulate(acc, last + left, SECRET_BYTES + LAST_AT);
    *a->result = merged(acc, a->total);
}
