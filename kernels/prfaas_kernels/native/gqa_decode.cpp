// One token of each of several sequences through all that an attention layer does between its projections: norms and
// rotation of queries and keys, keys and values to their pages, attention over the pages, sinks, output gate.
#include "attend.h"

constexpr int64_t MIN_PARALLEL = 1 << 15;  // elements read below which waking other threads costs more than it gives

struct GqaDecode {
    int64_t sequences, heads, groups, key, value, is_bf16;
    int64_t row_stride;                         // a row holds queries, keys, values and perhaps gates
    int64_t gated, rotated, interleaved;        // rotated: pairs of channels
    int64_t page_tokens, table_stride, k_page, k_token, v_page, v_token;  // elements from one to the next
    int64_t splits, split_tokens;               // a sequence's tokens are shared out in `splits` parts of so many
    int64_t padded_key;                         // floats from one query to the next
    const void* rows;
    void *k_pages, *v_pages;
    const int64_t *table, *lengths;             // lengths include the new token
    const float *cos, *sin;                     // [sequences, rotated]
    Numbers q_norm, k_norm, sinks;              // null where there are none
    float *queries, *values, *peaks, *totals;   // scratch: [sequences, heads, padded_key]; [sequences, splits, heads, value]
    void* out;                                  // [sequences, heads * value]
    double eps, scale;
};

static void turn(const GqaDecode& a, int64_t sequence, float* x) {
    const float *cos = a.cos + sequence * a.rotated, *sin = a.sin + sequence * a.rotated;
    const int64_t step = a.interleaved ? 2 : 1, apart = a.interleaved ? 1 : a.rotated;
    for (int64_t i = 0; i < a.rotated; ++i) {
        float &first = x[i * step], &second = x[i * step + apart];
        const float turned = first * cos[i] - second * sin[i];
        second = second * cos[i] + first * sin[i];
        first = turned;
    }
}

// A head as attention uses it: normalised and rotated, fp32, zeros up to whole vectors.
template <class T>
static void place(const GqaDecode& a, int64_t sequence, const T* from, const Numbers& norm, float scale, float* to) {
    f32x16 squares = {};
    for (int64_t d = 0; d < a.key; d += LANES) {
        const f32x16 x = load_some(from + d, a.key - d);
        squares += x * x;
        store(to + d, x);
    }
    if (norm.at) {
        const float factor = 1 / __builtin_sqrtf(sum(squares) / a.key + (float)a.eps);
        for (int64_t d = 0; d < a.key; d += LANES) store(to + d, load(to + d) * (factor * norm.load_some(d, a.key - d)));
    }
    turn(a, sequence, to);
    for (int64_t d = 0; d < a.key; d += LANES) store(to + d, load(to + d) * scale);
}

template <class T>
static const T* row_of(const GqaDecode& a, int64_t sequence) { return (const T*)a.rows + sequence * a.row_stride; }

template <class T>
static void prepare(const GqaDecode& a, int64_t sequence) {
    const T *q = row_of<T>(a, sequence), *k = q + a.heads * a.key, *v = k + a.groups * a.key;
    for (int64_t head = 0; head < a.heads; ++head)
        place(a, sequence, q + head * a.key, a.q_norm, a.scale, a.queries + (sequence * a.heads + head) * a.padded_key);
    const int64_t position = a.lengths[sequence] - 1, offset = position % a.page_tokens;
    const int64_t page = a.table[sequence * a.table_stride + position / a.page_tokens];
    T* to_k = (T*)a.k_pages + page * a.k_page + offset * a.k_token;
    T* to_v = (T*)a.v_pages + page * a.v_page + offset * a.v_token;
    alignas(64) float placed[a.padded_key];
    for (int64_t group = 0; group < a.groups; ++group) {
        place(a, sequence, k + group * a.key, a.k_norm, 1, placed);
        for (int64_t d = 0; d < a.key; d += LANES) store_some(to_k + group * a.key + d, load(placed + d), a.key - d);
    }
    memcpy(to_v, v, a.groups * a.value * sizeof(T));
}

// Finds the next tokens of a sequence, at most BLOCK and none from `stop` on: where their first heads lie.
template <class T>
static void locate(const GqaDecode& a, int64_t sequence, int64_t first, int64_t stop, Tokens<T>& found) {
    const int64_t* table = a.table + sequence * a.table_stride;
    found.count = 0;
    while (first < stop && found.count < BLOCK) {
        const int64_t page = table[first / a.page_tokens];
        int64_t offset = first % a.page_tokens;
        for (; offset < a.page_tokens && first < stop && found.count < BLOCK; ++offset, ++first, ++found.count) {
            found.keys[found.count] = (const T*)a.k_pages + page * a.k_page + offset * a.k_token;
            found.values[found.count] = (const T*)a.v_pages + page * a.v_page + offset * a.v_token;
        }
    }
}

template <class T>
static void next_head(const GqaDecode& a, Tokens<T>& tokens) {
    for (int64_t t = 0; t < tokens.count; ++t) tokens.keys[t] += a.key, tokens.values[t] += a.value;
}

// All queries of a sequence over one part of its tokens: all heads of a block, which lie side by side, before the next.
template <class T>
static void attend_part(const GqaDecode& a, int64_t sequence, int64_t split) {
    const int64_t sharing = a.heads / a.groups, begin = split * a.split_tokens, end = begin + a.split_tokens;
    const int64_t stop = end < a.lengths[sequence] ? end : a.lengths[sequence];
    const float* queries[a.heads];
    Mix mixes[a.heads];
    for (int64_t head = 0; head < a.heads; ++head) {
        const int64_t at = (sequence * a.splits + split) * a.heads + head;
        queries[head] = a.queries + (sequence * a.heads + head) * a.padded_key;
        mixes[head] = {a.values + at * a.value, a.peaks + at, a.totals + at};
        *mixes[head].peak = LOWEST;
        *mixes[head].total = 0;
        memset(mixes[head].values, 0, a.value * sizeof(float));
    }
    Tokens<T> now, next;
    locate(a, sequence, begin, stop, now);
    for (int64_t first = begin; first < stop; first += BLOCK) {
        for (int64_t group = 0; group < a.groups; ++group) {
            if (group + 1 < a.groups) next = now, next_head(a, next);
            else locate(a, sequence, first + BLOCK, stop, next);
            attend(queries + group * sharing, sharing, now, next, a.key, a.value, mixes + group * sharing);
            now = next;
        }
    }
}

// Joins the parts of a sequence's tokens and the sink, which carries no value.
template <class T>
static void finish(const GqaDecode& a, int64_t sequence, int64_t head) {
    const int64_t parts = (a.lengths[sequence] + a.split_tokens - 1) / a.split_tokens;
    const int64_t first = sequence * a.splits * a.heads + head;
    const float sink = a.sinks.at ? a.sinks.load_some(head, 1)[0] : LOWEST;
    float peak = sink, total = 0, shares[parts];
    for (int64_t i = 0; i < parts; ++i) peak = a.peaks[first + i * a.heads] > peak ? a.peaks[first + i * a.heads] : peak;
    for (int64_t i = 0; i < parts; ++i) {
        shares[i] = exp(splat(a.peaks[first + i * a.heads] - peak))[0];
        total += a.totals[first + i * a.heads] * shares[i];
    }
    total += exp(splat(sink - peak))[0];
    const T* gate = row_of<T>(a, sequence) + a.heads * a.key + a.groups * (a.key + a.value) + head * a.value;
    T* out = (T*)a.out + (sequence * a.heads + head) * a.value;
    for (int64_t d = 0; d < a.value; d += LANES) {
        const int64_t left = a.value - d;
        f32x16 value = {};
        for (int64_t i = 0; i < parts; ++i)
            value += shares[i] * load_some(a.values + (first + i * a.heads) * a.value + d, left);
        value /= total;
        store_some(out + d, a.gated ? value * sigmoid(load_some(gate + d, left)) : value, left);
    }
}

template <class T>
static void run(const GqaDecode& a, int threads) {
    int64_t tokens = 0;
    for (int64_t i = 0; i < a.sequences; ++i) tokens += a.lengths[i];
#pragma omp parallel num_threads(threads) if (tokens * a.groups * (a.key + a.value) > MIN_PARALLEL)
    {
#pragma omp for schedule(dynamic)
        for (int64_t sequence = 0; sequence < a.sequences; ++sequence) prepare<T>(a, sequence);
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < a.sequences * a.splits; ++task)
            if (task % a.splits * a.split_tokens < a.lengths[task / a.splits])
                attend_part<T>(a, task / a.splits, task % a.splits);
#pragma omp for
        for (int64_t task = 0; task < a.sequences * a.heads; ++task) finish<T>(a, task / a.heads, task % a.heads);
    }
}

extern "C" void gqa_decode(const GqaDecode* a, int threads) {
    if (a->is_bf16) run<bf16>(*a, threads);
    else run<float>(*a, threads);
}
