/* Decoders: their memory, and what they are asked to do. The step itself is in step.inc.h. */
#include "decoder.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 128 /* so that memory of two threads never shares a cache line */

/* The greatest sizes that a decoder can be made with: far more than is of use, and no product of them overflows. */
enum { MOST_ROWS_OF_CACHE = 4096, MOST_BATCH = 4096, MOST_TEXT = 1 << 20 };

static job_fn step_of_isa(int isa) {
    if (!mg_has_isa(isa)) return NULL;
    switch (isa) {
#if defined(__x86_64__)
    case MG_AVX512_VNNI: return step_avx512;
    case MG_AVX_VNNI: return step_avxvnni;
    case MG_AVX2: return step_avx2;
#elif defined(__aarch64__)
    case MG_NEON_DOT: return step_neon;
#endif
    default: return NULL;
    }
}

/* Hands out memory one piece after the other; with `memory` NULL only sizes are added up. */
typedef struct {
    uint8_t *memory;
    size_t at;
} arena;

static void *piece(arena *a, size_t count, size_t size) {
    void *found = a->memory ? a->memory + a->at : NULL;
    a->at += (count * size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return found;
}

static size_t greater(size_t a, size_t b) { return a > b ? a : b; }

/* Lay out all working memory but that of scores; return its size. */
static size_t lay_out(mg_decoder *d, uint8_t *memory) {
    const mg_sizes *s = &d->model->sizes;
    const size_t width = (size_t)s->width, ffn = (size_t)s->ffn, batch = (size_t)d->batch;
    const size_t widest = greater(2 * width, ffn); /* of `width` inputs, fine codes may be two parts */
    const size_t blocks = (size_t)blocks_of((int)greater(width, ffn));
    const size_t code = 2; /* bytes, of the largest of all instruction sets' */
    arena a = {memory, 0};
    d->scales = piece(&a, 2 * (size_t)s->layers * width, sizeof *d->scales);
    d->texts = piece(&a, (size_t)d->rows, sizeof *d->texts);
    d->x = piece(&a, batch * width, sizeof *d->x);
    d->h = piece(&a, batch * width, sizeof *d->h);
    d->y = piece(&a, batch * 3 * width, sizeof *d->y);
    d->wide = piece(&a, batch * ffn, sizeof *d->wide);
    d->codes = piece(&a, (batch + 16) * widest, code); /* a chunk has up to 16 rows, some of them to spare */
    d->steps = piece(&a, batch * blocks, sizeof *d->steps);
    d->group = piece(&a, batch, sizeof *d->group);
    d->text_rows = piece(&a, batch, sizeof *d->text_rows);
    scratch *scratches = piece(&a, (size_t)d->pool->threads, sizeof *scratches);
    for (int t = 0; t < d->pool->threads; t++) {
        scratch mine = {0};
        mine.codes = piece(&a, FEW * widest, code);
        mine.normed = piece(&a, width, sizeof *mine.normed);
        mine.steps = piece(&a, FEW * blocks, sizeof *mine.steps);
        mine.sums = piece(&a, batch * blocks, sizeof *mine.sums);
        mine.partial_sums = piece(&a, batch * blocks, sizeof *mine.partial_sums);
        if (memory) scratches[t] = mine;
    }
    d->scratch = scratches;
    return a.at;
}

/* Have memory for the scores of at least `count` positions or tokens, for each thread. */
static int reserve_scores(mg_decoder *d, int count) {
    if (count <= d->scores) return MG_OK;
    const size_t each = (size_t)(count + TILE - 1) / TILE * TILE + ALIGNMENT;
    const size_t threads = (size_t)d->pool->threads, bytes = threads * each * 2 * sizeof(float);
    float *memory = os_memory(bytes);
    if (!memory) return MG_NO_MEMORY;
    os_memory_free(d->score_memory, d->score_bytes);
    d->score_memory = memory;
    d->score_bytes = bytes;
    d->scores = count;
    for (size_t t = 0; t < threads; t++) {
        d->scratch[t].scores = memory + 2 * t * each;
        d->scratch[t].split = memory + (2 * t + 1) * each; /* two codes of at most 2 bytes for each score */
    }
    return MG_OK;
}

static int allocate(mg_decoder *d) {
    const mg_sizes *s = &d->model->sizes;
    d->tile = (size_t)TILE * (size_t)d->model->head_width;
    d->layer_stride = 2 * d->tile * (size_t)s->heads;
    /* Not a multiple of a large power of two: tiles of one head would all compete for the same few lines of a cache. */
    d->block_stride = d->layer_stride * (size_t)s->layers + 17 * 64;
    d->row_stride = d->block_stride * (((size_t)d->positions + TILE - 1) / TILE);
    d->cache_bytes = d->row_stride * (size_t)d->rows;
    d->cache = os_memory(d->cache_bytes);
    d->memory_bytes = lay_out(d, NULL);
    d->memory = os_memory(d->memory_bytes);
    if (!d->cache || !d->memory) return MG_NO_MEMORY;
    lay_out(d, d->memory);
    return reserve_scores(d, d->positions);
}

int mg_decoder_new(const mg_model *model, mg_pool *pool, int isa, int rows, int positions, int batch,
                   const float *scales, mg_decoder **result) {
    if (!model || !pool || !scales || !result || rows < 1 || rows > MOST_ROWS_OF_CACHE || positions < 1 ||
        positions > model->sizes.positions || batch < 1 || batch > MOST_BATCH)
        return MG_BAD_ARGUMENT;
    const job_fn step = step_of_isa(isa);
    if (!step) return MG_UNSUPPORTED;
    mg_decoder *d = calloc(1, sizeof *d);
    if (!d) return MG_NO_MEMORY;
    d->model = model;
    d->pool = pool;
    d->step = step;
    d->rows = rows;
    d->positions = positions;
    d->batch = batch;
    if (allocate(d) != MG_OK) {
        mg_decoder_free(d);
        return MG_NO_MEMORY;
    }
    memcpy(d->scales, scales, 2 * (size_t)model->sizes.layers * (size_t)model->sizes.width * sizeof *scales);
    *result = d;
    return MG_OK;
}

void mg_decoder_free(mg_decoder *d) {
    if (!d) return;
    os_memory_free(d->cache, d->cache_bytes);
    os_memory_free(d->memory, d->memory_bytes);
    os_memory_free(d->score_memory, d->score_bytes);
    free(d);
}

int mg_set_text(mg_decoder *d, int row, const float *values, int length, int used) {
    if (!d || row < 0 || row >= d->rows) return MG_BAD_ARGUMENT;
    if (!values) {
        d->texts[row] = (text){0};
        return MG_OK;
    }
    if (!d->model->sizes.cross || length < 1 || length > MOST_TEXT || length % 16 || used < 1 || used > length)
        return MG_BAD_ARGUMENT;
    const size_t half = (size_t)d->model->sizes.layers * (size_t)d->model->sizes.width * (size_t)length;
    const int failed = reserve_scores(d, length);
    if (failed) return failed;
    d->texts[row] = (text){values, values + half, length, used};
    return MG_OK;
}

int mg_move(mg_decoder *d, int source, int target, int positions) {
    if (!d || source < 0 || source >= d->rows || target < 0 || target >= d->rows || positions < 0 ||
        positions > d->positions)
        return MG_BAD_ARGUMENT;
    if (source == target) return MG_OK;
    const size_t blocks = ((size_t)positions + TILE - 1) / TILE;
    memcpy(d->cache + (size_t)target * d->row_stride, d->cache + (size_t)source * d->row_stride,
           blocks * d->block_stride);
    d->texts[target] = d->texts[source];
    return MG_OK;
}

/* Check the arguments of a call, and divide them into groups. */
static int prepare(mg_decoder *d) {
    const mg_sizes *s = &d->model->sizes;
    d->groups = d->texted = 0;
    for (int i = 0; i < d->count; i++) {
        const int64_t row = d->at_rows[i], position = d->at_positions[i];
        if (row < 0 || row >= d->rows || position < 0 || position >= d->positions) return MG_BAD_ARGUMENT;
        for (int k = 0; d->tokens && k < s->codebooks; k++) {
            const int64_t token = d->tokens[i * s->codebooks + k];
            if (token < 0 || token > s->vocab) return MG_BAD_ARGUMENT;
        }
        if (d->texts[row].keys) d->text_rows[d->texted++] = i;
        if (i && row == d->at_rows[i - 1]) {
            if (position != d->at_positions[i - 1] + 1) return MG_BAD_ARGUMENT;
            d->group[d->groups - 1].count++;
            continue;
        }
        for (int g = 0; g < d->groups; g++)
            if (d->at_rows[d->group[g].first] == row) return MG_BAD_ARGUMENT;
        d->group[d->groups++] = (group){i, 1};
    }
    return MG_OK;
}

int mg_run(mg_decoder *d, int count, const int64_t *rows, const int64_t *positions, const int64_t *tokens,
           const float *inputs, int wanted, float *logits) {
    if (!d || count < 1 || count > d->batch || !rows || !positions || !tokens == !inputs || wanted < 0 ||
        wanted > count || (wanted && !logits))
        return MG_BAD_ARGUMENT;
    d->count = count;
    d->wanted = wanted;
    d->at_rows = rows;
    d->at_positions = positions;
    d->tokens = tokens;
    d->inputs = inputs;
    d->logits = logits;
    const int failed = prepare(d);
    if (failed) return failed;
    pool_run(d->pool, d->step, d);
    return MG_OK;
}
