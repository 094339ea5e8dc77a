// bf16 without loss: exponents as three bits below their block's largest, and as a byte each where that does not do.
#include <cstring>
#include <vector>

#include "token_rows.h"

constexpr int64_t MIN_PARALLEL = 1 << 15;  // values below which waking the other threads costs more than it gives
constexpr int64_t HEADER = 16, LANES = 8, RUN = 512, BLOCK = LANES * RUN, CODES = 7;

struct Exact {
    TokenRows rows;
    int64_t blocks, last_run, codes_at, table_at, escapes_at, end;  // bytes; escapes stay before `end`
    uint8_t* data;
    int64_t* result;  // encoding: the length, or -1 if it would pass `end`; decoding: blocks with a wrong count

    int64_t run(int64_t block) const { return block == blocks - 1 ? last_run : RUN; }
    int64_t size(int64_t block) const {
        return block == blocks - 1 ? rows.tokens * rows.channels - block * BLOCK : BLOCK;
    }
    uint8_t* kept(int64_t block) const { return data + HEADER + block * BLOCK; }
    uint8_t* planes(int64_t block) const { return data + codes_at + block * 3 * RUN; }

    uint32_t entry(int64_t block) const {
        uint32_t entry;
        memcpy(&entry, data + table_at + 4 * block, sizeof entry);
        return entry;
    }

    // Copies a block's values out of rows, or into them.
    template <bool out>
    void move(int64_t block, uint16_t* values) const {
        int64_t at = block * BLOCK, left = size(block);
        while (left) {
            const int64_t token = at / rows.channels, channel = at % rows.channels;
            const int64_t count = left < rows.channels - channel ? left : rows.channels - channel;
            uint16_t* row = rows.row<uint16_t>(token) + channel;
            if (out) memcpy(values, row, count * sizeof(uint16_t));
            else memcpy(row, values, count * sizeof(uint16_t));
            at += count, left -= count, values += count;
        }
    }
};

// The largest of the 7 exponents in sequence that most of a sample of the block has; the smallest such.
static uint8_t top_of(const uint8_t* exponents, int64_t size) {
    uint16_t counts[256 + CODES] = {};  // 7 zeros first
    for (int64_t i = 0; i < 256; ++i)
        if (16 * i + i % 16 < size) ++counts[CODES + exponents[16 * i + i % 16]];
    int64_t hits = 0, most = -1, top = 0;
    for (int64_t e = 0; e < 256; ++e) {
        hits += counts[CODES + e] - counts[e];
        if (hits > most) most = hits, top = e;
    }
    return top;
}

// Which of a column's 8 codes are escapes, as bits. Returns how many there are.
static int64_t mark_escapes(const uint8_t* c, int64_t run, uint8_t* marks) {
    for (int64_t i = 0; i < run; ++i) {
        uint8_t mark = 0;
        for (int64_t lane = 0; lane < LANES; ++lane) mark |= (c[lane * run + i] == CODES) << lane;
        marks[i] = mark;
    }
    int64_t count = 0;
    for (int64_t i = 0; i < run; i += 8) {  // a run is a multiple of 16
        uint64_t eight;
        memcpy(&eight, marks + i, sizeof eight);
        count += __builtin_popcountll(eight);
    }
    return count;
}

// Calls `escape(place)` for each marked place, column by column.
template <class F>
static void each_escape(const uint8_t* marks, int64_t run, F escape) {
    for (int64_t i = 0; i < run; i += 8) {
        uint64_t eight;
        memcpy(&eight, marks + i, sizeof eight);
        for (; eight; eight &= eight - 1) {
            const int64_t bit = __builtin_ctzll(eight);
            escape(bit % 8 * run + i + bit / 8);
        }
    }
}

static void encode_block(const Exact& a, int64_t block, std::vector<uint8_t>& escapes) {
    const int64_t size = a.size(block), run = a.run(block), before = escapes.size();
    uint16_t bits[BLOCK];
    uint8_t exponents[BLOCK], codes[BLOCK], marks[RUN];
    a.move<true>(block, bits);
    memset(bits + size, 0, (LANES * run - size) * sizeof(uint16_t));
    uint8_t *kept = a.kept(block), *planes = a.planes(block);
    for (int64_t i = 0; i < LANES * run; ++i) {
        exponents[i] = bits[i] >> 7;
        kept[i] = (bits[i] >> 8 & 0x80) | (bits[i] & 0x7f);
    }
    const uint8_t top = top_of(exponents, size);
    for (int64_t i = 0; i < LANES * run; ++i) {
        const uint8_t below = top - exponents[i];
        codes[i] = below < CODES ? below : CODES;
    }
    memset(codes + size, 0, LANES * run - size);
    const uint8_t* c = codes;
    for (int64_t i = 0; i < run; ++i) {
        planes[i] = c[i] | c[run + i] << 3 | c[2 * run + i] << 6;
        planes[run + i] = c[2 * run + i] >> 2 | c[3 * run + i] << 1 | c[4 * run + i] << 4 | c[5 * run + i] << 7;
        planes[2 * run + i] = c[5 * run + i] >> 1 | c[6 * run + i] << 2 | c[7 * run + i] << 5;
    }
    mark_escapes(codes, run, marks);
    each_escape(marks, run, [&](int64_t place) { escapes.push_back(exponents[place]); });
    const uint32_t entry = (escapes.size() - before) | (uint32_t)top << 16;
    memcpy(a.data + a.table_at + 4 * block, &entry, sizeof entry);
}

extern "C" void encode_exact(const Exact* a, int threads) {
    if (a->blocks * BLOCK <= MIN_PARALLEL) threads = 1;
    std::vector<std::vector<uint8_t>> escapes(threads);
#pragma omp parallel for num_threads(threads)
    for (int part = 0; part < threads; ++part)
        for (int64_t block = a->blocks * part / threads; block < a->blocks * (part + 1) / threads; ++block)
            encode_block(*a, block, escapes[part]);
    int64_t length = a->escapes_at;
    for (const auto& part : escapes) length += part.size();
    *a->result = length < a->end ? length : -1;
    if (*a->result < 0) return;
    uint8_t* at = a->data + a->escapes_at;
    for (const auto& part : escapes) {
        if (!part.empty()) memcpy(at, part.data(), part.size());
        at += part.size();
    }
}

static bool decode_block(const Exact& a, int64_t block, const uint8_t* escapes) {
    const int64_t run = a.run(block);
    const uint32_t entry = a.entry(block);
    uint16_t bits[BLOCK];
    uint8_t exponents[BLOCK], codes[BLOCK], marks[RUN];
    const uint8_t *kept = a.kept(block), *planes = a.planes(block);
    uint8_t* c = codes;
    for (int64_t i = 0; i < run; ++i) {
        const uint8_t low = planes[i], middle = planes[run + i], high = planes[2 * run + i];
        c[i] = low & 7, c[run + i] = low >> 3 & 7, c[2 * run + i] = (low >> 6 | middle << 2) & 7;
        c[3 * run + i] = middle >> 1 & 7, c[4 * run + i] = middle >> 4 & 7;
        c[5 * run + i] = (middle >> 7 | high << 1) & 7, c[6 * run + i] = high >> 2 & 7, c[7 * run + i] = high >> 5;
    }
    const uint8_t top = entry >> 16;
    for (int64_t i = 0; i < LANES * run; ++i) exponents[i] = top - codes[i];
    if (mark_escapes(codes, run, marks) != (entry & 0xffff)) return false;
    each_escape(marks, run, [&](int64_t place) { exponents[place] = *escapes++; });
    for (int64_t i = 0; i < LANES * run; ++i)
        bits[i] = (kept[i] & 0x80) << 8 | exponents[i] << 7 | (kept[i] & 0x7f);
    a.move<false>(block, bits);
    return true;
}

// The table's counts add up to the escapes before `end`: the caller has seen to it.
extern "C" void decode_exact(const Exact* a, int threads) {
    if (a->blocks * BLOCK <= MIN_PARALLEL) threads = 1;
    std::vector<int64_t> offsets(a->blocks);
    int64_t total = a->escapes_at, wrong = 0;
    for (int64_t block = 0; block < a->blocks; ++block) {
        offsets[block] = total;
        total += a->entry(block) & 0xffff;
    }
#pragma omp parallel for num_threads(threads) reduction(+ : wrong)
    for (int64_t block = 0; block < a->blocks; ++block) wrong += !decode_block(*a, block, a->data + offsets[block]);
    *a->result = wrong;
}
