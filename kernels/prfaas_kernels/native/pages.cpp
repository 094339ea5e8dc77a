// Rows of states between the pages where they lie, each wherever there was room, and a dense tensor.
#include <cstdint>
#include <cstring>

constexpr int64_t MIN_PARALLEL = 1 << 17;  // bytes below which waking the other threads costs more than it gives

struct Rows {
    int64_t sequences, rows, stride, row_bytes;  // stride: offsets from one sequence to the next
    int64_t to_pages;
    char* arena;
    const int64_t* offsets;  // bytes
    char* dense;             // [sequences, rows, row_bytes]
};

extern "C" void move_rows(const Rows* args, int threads) {
    const Rows a = *args;
    const int64_t count = a.sequences * a.rows;
#pragma omp parallel for num_threads(threads) if (count * a.row_bytes > MIN_PARALLEL)
    for (int64_t i = 0; i < count; ++i) {
        char* paged = a.arena + a.offsets[i / a.rows * a.stride + i % a.rows];
        char* dense = a.dense + i * a.row_bytes;
        if (a.to_pages) memcpy(paged, dense, a.row_bytes);
        else memcpy(dense, paged, a.row_bytes);
    }
}
