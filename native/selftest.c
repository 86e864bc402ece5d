/*
 * Tests the library without Python, so that it can also be run with sanitizers, and for other processors under qemu.
 *
 * Small random models are computed with every instruction set of this processor, in company and alone, with one thread
 * and several, position by position and many at once. All must agree to the bit, also with other processors: what is
 * printed last is a digest of all logits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"
#include "weights.h"

enum { ROWS = 20, STEPS = 40, TOKENS = 32, USED = 21 };

static int failures;
static const char *const names[] = {"", "avx512vnni", "avxvnni", "avx2", "neon"};

static void expect(int condition, const char *what, const char *where) {
    if (condition) return;
    failures++;
    printf("FAILED: %s (%s)\n", what, where);
}

static uint64_t state;
static uint32_t random32(void) { /* SplitMix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)(z >> 32);
}
static float random_float(float size) { /* as a triangle, from -size to size */
    return ((float)(random32() >> 8) + (float)(random32() >> 8) - 16777216.0f) / 16777216.0f * size;
}

static void fill(const float *values, size_t count, float size, float middle) {
    for (size_t i = 0; i < count; i++) ((float *)values)[i] = middle + random_float(size);
}
static void fill_norm(const norm *n, size_t width) {
    fill(n->weight, width, 0.2f, 1.0f);
    fill(n->bias, width, 0.2f, 0.0f);
}
static void fill_matrix(const matrix *m) {
    for (size_t i = 0; i < (size_t)m->inputs * (size_t)m->outputs; i++)
        ((uint8_t *)m->codes)[i] = (uint8_t)(1 + random32() % 255);
    fill(m->scales, (size_t)m->outputs, 0.0005f, 0.0015f);
}
static void add_up(const matrix *m, const int32_t *sums) { /* the blocks of the columns */
    int32_t *to = (int32_t *)sums;
    memset(to, 0, (size_t)blocks_of(m->inputs) * (size_t)m->outputs * sizeof *to);
    for (int o = 0; o < m->outputs; o++)
        for (int i = 0; i < m->inputs; i++) {
            const size_t vector = (size_t)(o / PANEL) * (size_t)(m->inputs / 4) + (size_t)(i / 4);
            to[i / BLOCK * m->outputs + o] += m->codes[vector * 64 + (size_t)(o % PANEL) * 4 + (size_t)(i % 4)] - 128;
        }
}

/* A random weight file and its model. */
typedef struct {
    uint8_t *file;
    size_t bytes;
    mg_model *model;
    float *scales, *text;
} sample;

static void write_header(uint8_t *file, const mg_sizes *sizes) {
    const uint32_t version = MG_ABI;
    memcpy(file, "musicgen", 8);
    memcpy(file + 8, &version, 4);
    memcpy(file + 12, sizes, sizeof *sizes);
}

static sample new_sample(mg_sizes sizes) {
    sample s = {0};
    s.bytes = (size_t)weight_file_bytes(&sizes);
    s.file = os_memory(s.bytes);
    write_header(s.file, &sizes);
    expect(mg_model_new(s.file, s.bytes, &s.model) == MG_OK, "a model of valid sizes", "new");
    const mg_model *m = s.model;
    const size_t width = (size_t)sizes.width, books = (size_t)sizes.codebooks;
    fill(m->embeddings, books * ((size_t)sizes.vocab + 1) * width, 0.5f, 0.0f);
    fill(m->position_vectors, (size_t)sizes.positions * width, 0.5f, 0.0f);
    for (int i = 0; i < sizes.layers; i++) {
        const layer *l = &m->layers[i];
        const matrix *all[] = {&l->qkv, &l->out, &l->fc1, &l->fc2, &l->cross_query, &l->cross_out};
        const norm *norms[] = {&l->self_norm, &l->ffn_norm, &l->cross_norm};
        for (int j = 0; j < (sizes.cross ? 6 : 4); j++) fill_matrix(all[j]);
        for (int j = 0; j < (sizes.cross ? 3 : 2); j++) fill_norm(norms[j], width);
        add_up(&l->fc2, l->fc2_sums);
    }
    fill_norm(&m->last_norm, width);
    for (size_t i = 0; i < (size_t)m->head_panels * PANEL * width; i++) /* from 0.25 to 1, of both signs */
        ((uint16_t *)m->heads)[i] = (uint16_t)((random32() & 0x8000) | (0x3400 + random32() % 0x800));
    fill(m->head_scales, (size_t)m->head_panels * PANEL, 0.1f, 0.5f);
    s.scales = calloc(2 * (size_t)sizes.layers * width, sizeof *s.scales);
    s.text = calloc(2 * (size_t)sizes.layers * width * TOKENS, sizeof *s.text);
    fill(s.scales, 2 * (size_t)sizes.layers * width, 0.01f, 0.03f);
    fill(s.text, 2 * (size_t)sizes.layers * width * TOKENS, 1.0f, 0.0f);
    return s;
}

static void free_sample(sample *s) {
    mg_model_free(s->model);
    os_memory_free(s->file, s->bytes);
    free(s->scales);
    free(s->text);
}

/* The token of a row and codebook; rows have their own, but rows 0 and 1 the same. */
static int64_t token(const mg_sizes *s, int row, int position, int book) {
    return (row < 2 ? position * 7 + book * 3 : position * 5 + row * 11 + book) % (s->vocab + 1);
}
static int has_text(const sample *s, int row) { return s->model->sizes.cross && row % 2 == 0; }

static mg_decoder *new_decoder(const sample *s, mg_pool *pool, int isa, int rows, int positions) {
    mg_decoder *d = NULL;
    expect(mg_decoder_new(s->model, pool, isa, rows, positions, ROWS, s->scales, &d) == MG_OK, "a decoder", names[isa]);
    for (int r = 0; r < rows; r++)
        if (has_text(s, r)) expect(mg_set_text(d, r, s->text, TOKENS, USED) == MG_OK, "a text", names[isa]);
    return d;
}

/* Advance rows of the cache, each at its own position, that stand for rows of `token`. */
static void advance(const sample *s, mg_decoder *d, int count, const int64_t *rows, const int *as, const int64_t *at,
                    float *logits) {
    int64_t tokens[ROWS * 8];
    const int books = s->model->sizes.codebooks;
    for (int r = 0; r < count; r++)
        for (int b = 0; b < books; b++) tokens[r * books + b] = token(&s->model->sizes, as[r], (int)at[r], b);
    expect(mg_run(d, count, rows, at, tokens, NULL, count, logits) == MG_OK, "a step", "run");
}

/* Logits of rows 0 to 3, each alone, with one thread: (4, STEPS, outputs). */
static float *alone(const sample *s, int isa, size_t outputs) {
    float *logits = calloc(4 * STEPS * outputs, sizeof *logits);
    mg_pool *pool = NULL;
    expect(mg_pool_new(1, 0, &pool) == MG_OK, "a pool", "alone");
    for (int row = 0; row < 4; row++) {
        mg_decoder *d = new_decoder(s, pool, isa, ROWS, STEPS);
        const int64_t of_cache = row;
        for (int64_t at = 0; at < STEPS; at++)
            advance(s, d, 1, &of_cache, &row, &at, logits + ((size_t)row * STEPS + (size_t)at) * outputs);
        mg_decoder_free(d);
    }
    mg_pool_free(pool);
    return logits;
}

/* Rows in company: row r joins r steps later, as another user's would. */
static void check_company(const sample *s, int isa, mg_pool *pool, const float *expected, size_t outputs) {
    static const int companies[] = {1, 2, 3, 4, 5, 7, 8, 11, 16, ROWS};
    float *logits = calloc(ROWS * outputs, sizeof *logits);
    for (size_t c = 0; c < sizeof companies / sizeof *companies; c++) {
        mg_decoder *d = new_decoder(s, pool, isa, ROWS, STEPS);
        for (int step = 0; step < STEPS; step++) {
            int64_t rows[ROWS], at[ROWS];
            int as[ROWS];
            for (int r = 0; r < companies[c]; r++) {
                rows[r] = as[r] = r;
                at[r] = step < r % 4 ? 0 : step - r % 4;
            }
            advance(s, d, companies[c], rows, as, at, logits);
            for (int r = 0; r < 4 && r < companies[c]; r++) {
                const float *alone = expected + ((size_t)r * STEPS + (size_t)at[r]) * outputs;
                const int same = !memcmp(alone, logits + (size_t)r * outputs, outputs * sizeof *logits);
                expect(same, "a row in company is what it is alone", names[isa]);
            }
        }
        mg_decoder_free(d);
    }
    free(logits);
}

/* Many positions at once, then a move to another row, then single steps. */
static void check_prefill(const sample *s, int isa, mg_pool *pool, const float *expected, size_t outputs) {
    enum { MOVED = 37, FIRST = 19 };
    const int books = s->model->sizes.codebooks;
    mg_decoder *d = new_decoder(s, pool, isa, ROWS, STEPS);
    float *logits = calloc(ROWS * outputs, sizeof *logits);
    int64_t rows[ROWS], at[ROWS], tokens[ROWS * 8];
    for (int from = 0; from < MOVED; from += FIRST) {
        const int count = MOVED - from < FIRST ? MOVED - from : FIRST;
        for (int i = 0; i < count; i++) {
            rows[i] = 2;
            at[i] = from + i;
            for (int b = 0; b < books; b++) tokens[i * books + b] = token(&s->model->sizes, 2, from + i, b);
        }
        expect(mg_run(d, count, rows, at, tokens, NULL, 2, logits) == MG_OK, "a prefill", names[isa]);
        const float *alone = expected + (2 * STEPS + (size_t)from + (size_t)count - 2) * outputs;
        expect(!memcmp(alone, logits, 2 * outputs * sizeof *logits), "many positions at once", names[isa]);
    }
    expect(mg_move(d, 2, 5, MOVED) == MG_OK, "a move", names[isa]);
    for (int64_t position = MOVED; position < STEPS; position++) {
        const int64_t row = 5;
        const int as = 2;
        advance(s, d, 1, &row, &as, &position, logits);
        const float *alone = expected + (2 * STEPS + (size_t)position) * outputs;
        expect(!memcmp(alone, logits, outputs * sizeof *logits), "a moved row", names[isa]);
    }
    mg_decoder_free(d);
    free(logits);
}

/* Given vectors instead of tokens: those of the tokens give the same logits. */
static void check_inputs(const sample *s, int isa, mg_pool *pool, const float *expected, size_t outputs) {
    const mg_sizes *z = &s->model->sizes;
    const size_t width = (size_t)z->width;
    mg_decoder *d = new_decoder(s, pool, isa, 1, STEPS);
    float *inputs = calloc(STEPS * width, sizeof *inputs), *logits = calloc(outputs, sizeof *logits);
    int64_t rows[STEPS], at[STEPS];
    for (int i = 0; i < STEPS / 2; i++) {
        rows[i] = 0;
        at[i] = i;
        for (int b = 0; b < z->codebooks; b++) {
            const size_t row = (size_t)b * ((size_t)z->vocab + 1) + (size_t)token(z, 0, i, b);
            for (size_t j = 0; j < width; j++) inputs[(size_t)i * width + j] += s->model->embeddings[row * width + j];
        }
    }
    expect(mg_run(d, STEPS / 2, rows, at, NULL, inputs, 1, logits) == MG_OK, "given vectors", names[isa]);
    const float *alone = expected + (STEPS / 2 - 1) * outputs;
    expect(!memcmp(alone, logits, outputs * sizeof *logits), "vectors give what their tokens give", names[isa]);
    mg_decoder_free(d);
    free(inputs);
    free(logits);
}

static void check_arguments(const sample *s, int isa, mg_pool *pool) {
    const mg_sizes *z = &s->model->sizes;
    mg_decoder *d = new_decoder(s, pool, isa, 2, STEPS), *none = NULL;
    float *logits = calloc(ROWS * (size_t)(z->codebooks * z->vocab), sizeof *logits);
    int64_t rows[] = {0, 1, 0}, at[] = {0, 0, 1}, tokens[3 * 8] = {0};
#define REFUSED(call) expect((call) == MG_BAD_ARGUMENT, #call, names[isa])
    REFUSED(mg_run(d, 3, rows, at, tokens, NULL, 1, logits)); /* a row twice, but not in succession */
    REFUSED(mg_run(d, 0, rows, at, tokens, NULL, 0, logits));
    REFUSED(mg_run(d, ROWS + 1, rows, at, tokens, NULL, 0, logits));
    REFUSED(mg_run(d, 1, rows, at, NULL, NULL, 1, logits));
    REFUSED(mg_run(d, 1, rows, at, tokens, logits, 1, logits));
    REFUSED(mg_run(d, 1, rows, at, tokens, NULL, 2, logits));
    tokens[0] = z->vocab + 1;
    REFUSED(mg_run(d, 1, rows, at, tokens, NULL, 1, logits));
    tokens[0] = -1;
    REFUSED(mg_run(d, 1, rows, at, tokens, NULL, 1, logits));
    tokens[0] = 0;
    at[0] = STEPS;
    REFUSED(mg_run(d, 1, rows, at, tokens, NULL, 1, logits));
    at[0] = 0;
    rows[0] = 2;
    REFUSED(mg_run(d, 1, rows, at, tokens, NULL, 1, logits));
    REFUSED(mg_move(d, 0, 2, 1));
    REFUSED(mg_move(d, 0, 1, STEPS + 1));
    REFUSED(mg_set_text(d, 0, s->text, 17, 1));
    REFUSED(mg_set_text(d, 0, s->text, 16, 17));
    REFUSED(mg_decoder_new(s->model, pool, isa, 1, z->positions + 1, 1, s->scales, &none));
    mg_decoder_free(d);
    free(logits);
}

/* A long sequence: positions up to the last one of 30 s, prefilled and then single, with 1 and 3 threads. */
static void check_long(const sample *s, int isa, mg_pool *one, mg_pool *three, size_t outputs) {
    enum { END = 1502 };
    float *logits = calloc(2 * outputs, sizeof *logits);
    for (int i = 0; i < 2; i++) {
        mg_decoder *d = new_decoder(s, i ? three : one, isa, 1, s->model->sizes.positions);
        const int books = s->model->sizes.codebooks;
        int64_t rows[ROWS] = {0}, at[ROWS], tokens[ROWS * 8];
        for (int position = 0; position < END; position += ROWS) {
            int count = 0;
            for (; count < ROWS && position + count < END; count++) {
                at[count] = position + count;
                for (int b = 0; b < books; b++)
                    tokens[count * books + b] = token(&s->model->sizes, 3, position + count, b);
            }
            mg_run(d, count, rows, at, tokens, NULL, 0, NULL);
        }
        const int as = 3;
        const int64_t last = END;
        advance(s, d, 1, rows, &as, &last, logits + (size_t)i * outputs);
        mg_decoder_free(d);
    }
    expect(!memcmp(logits, logits + outputs, outputs * sizeof *logits), "a long sequence", names[isa]);
    free(logits);
}

static uint64_t digest(uint64_t hash, const float *values, size_t count) { /* FNV-1a */
    const uint8_t *bytes = (const uint8_t *)values;
    for (size_t i = 0; i < count * sizeof *values; i++) hash = (hash ^ bytes[i]) * 0x100000001B3u;
    return hash;
}

static uint64_t check_model(mg_sizes sizes, uint64_t hash) {
    sample s = new_sample(sizes);
    const size_t outputs = (size_t)sizes.codebooks * (size_t)sizes.vocab;
    mg_pool *one = NULL, *three = NULL;
    float *first = NULL;
    expect(mg_pool_new(1, 0, &one) == MG_OK && mg_pool_new(3, 0, &three) == MG_OK, "pools", "model");
    for (int isa = 1; isa < MG_ISA_COUNT; isa++) {
        if (!mg_has_isa(isa)) continue;
        float *logits = alone(&s, isa, outputs);
        for (size_t i = 0; i < 4 * STEPS * outputs; i++)
            if (!(logits[i] > -1e6f && logits[i] < 1e6f)) expect(0, "logits are finite", names[isa]);
        if (first) expect(!memcmp(first, logits, 4 * STEPS * outputs * sizeof *first), "all sets agree", names[isa]);
        for (int i = 0; i < 2; i++) {
            check_company(&s, isa, i ? three : one, logits, outputs);
            check_prefill(&s, isa, i ? three : one, logits, outputs);
            check_inputs(&s, isa, i ? three : one, logits, outputs);
        }
        check_arguments(&s, isa, one);
        if (sizes.positions > 1502) check_long(&s, isa, one, three, outputs);
        printf("%s: width %d, %d heads, activation %d, cross %d\n", names[isa], sizes.width, sizes.heads,
               sizes.activation, sizes.cross);
        if (first)
            free(logits);
        else
            first = logits;
    }
    if (first) hash = digest(hash, first, 4 * STEPS * outputs);
    free(first);
    mg_pool_free(one);
    mg_pool_free(three);
    free_sample(&s);
    return hash;
}

/* Headers with random changes, and any sizes: each is refused, or describes exactly the bytes that are there. */
static void check_headers(void) {
    const mg_sizes sizes = {1, 32, 2, 64, 10, 2, 8, RELU, 0};
    const size_t bytes = (size_t)weight_file_bytes(&sizes);
    uint8_t *file = os_memory(bytes);
    for (int i = 0; i < 200000; i++) {
        write_header(file, &sizes);
        for (uint32_t changes = 1 + random32() % 3; changes; changes--) {
            const uint32_t at = random32() % 48, kind = random32() % 3;
            const uint32_t value = kind == 0 ? random32() : kind == 1 ? random32() % 64 : ~random32() % 64;
            if (at % 4 == 0)
                memcpy(file + at, &value, 4);
            else
                file[at] = (uint8_t)value;
        }
        mg_model *model = NULL;
        const size_t claimed = random32() % 4 ? bytes : random32() % (bytes + 1);
        if (mg_model_new(file, claimed, &model) == MG_OK) {
            expect(weight_file_bytes(mg_model_sizes(model)) == claimed, "a header that is accepted", "headers");
            mg_model_free(model);
        }
    }
    mg_model *model = NULL;
    write_header(file, &sizes);
    expect(mg_model_new(file, bytes, &model) == MG_OK, "the header itself", "headers");
    expect(mg_model_new(file, bytes - 1, &model) == MG_BAD_FILE, "a truncated file", "headers");
    expect(mg_model_new(file + 1, bytes - 64, &model) == MG_BAD_ARGUMENT, "an address that isn't aligned", "headers");
    mg_model_free(model);
    os_memory_free(file, bytes);
}

int main(void) {
    uint64_t hash = 0xCBF29CE484222325u;
    int sets = 0;
    for (int isa = 1; isa < MG_ISA_COUNT; isa++) sets += mg_has_isa(isa);
    if (!sets) {
        printf("this processor has no instruction set that the library can use\n");
        return 2;
    }
    check_headers();
    hash = check_model((mg_sizes){2, 128, 2, 256, 30, 4, 1600, GELU, 1}, hash);
    hash = check_model((mg_sizes){2, 96, 2, 160, 33, 4, STEPS, RELU, 1}, hash);
    hash = check_model((mg_sizes){1, 80, 5, 112, 21, 2, STEPS, GELU_NEW, 0}, hash);
    hash = check_model((mg_sizes){1, 256, 1, 512, 64, 1, STEPS, GELU, 0}, hash);
    hash = check_model((mg_sizes){1, 528, 3, 1040, 21, 1, STEPS, GELU, 1}, hash); /* several blocks, the last ones short */
    printf("digest %016llx, %d failures\n", (unsigned long long)hash, failures);
    return failures != 0;
}
