/* See weights.h. */
#include "weights.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64
#define HEADER 64

/* Far more than any model has; small enough that no sum or product of sizes overflows 64 bits. */
enum { MOST_LAYERS = 1 << 10, MOST_WIDTH = 1 << 15, MOST_CODES = 1 << 16, MOST_POSITIONS = 1 << 20 };

/* Goes over the file; with `file` NULL only sizes are added up. */
typedef struct {
    const uint8_t *file;
    uint64_t at;
} reader;

static const void *next(reader *r, uint64_t bytes) {
    const void *found = r->file ? r->file + r->at : NULL;
    r->at += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return found;
}

static norm next_norm(reader *r, int width) {
    norm n;
    n.weight = next(r, 4u * (uint64_t)width);
    n.bias = next(r, 4u * (uint64_t)width);
    return n;
}

static matrix next_matrix(reader *r, int inputs, int outputs) {
    matrix m = {inputs, outputs, NULL, NULL};
    m.codes = next(r, (uint64_t)inputs * (uint64_t)outputs);
    m.scales = next(r, 4u * (uint64_t)outputs);
    return m;
}

static layer next_layer(reader *r, const mg_sizes *s) {
    layer l = {0};
    l.self_norm = next_norm(r, s->width);
    l.qkv = next_matrix(r, s->width, 3 * s->width);
    l.out = next_matrix(r, s->width, s->width);
    if (s->cross) {
        l.cross_norm = next_norm(r, s->width);
        l.cross_query = next_matrix(r, s->width, s->width);
        l.cross_out = next_matrix(r, s->width, s->width);
    }
    l.ffn_norm = next_norm(r, s->width);
    l.fc1 = next_matrix(r, s->width, s->ffn);
    l.fc2 = next_matrix(r, s->ffn, s->width);
    l.fc2_sums = next(r, 4u * (uint64_t)blocks_of(s->ffn) * (uint64_t)s->width);
    return l;
}

/* Fill in a model, or only return the size of its file if `model` is NULL. */
static uint64_t read_model(const uint8_t *file, const mg_sizes *s, mg_model *model) {
    reader r = {file, HEADER};
    mg_model scratch, *m = model ? model : &scratch;
    const uint64_t width = (uint64_t)s->width;
    m->sizes = *s;
    m->head_width = s->width / s->heads;
    m->head_panels = (s->codebooks * s->vocab + PANEL - 1) / PANEL;
    m->embeddings = next(&r, 4 * (uint64_t)s->codebooks * (uint64_t)(s->vocab + 1) * width);
    m->position_vectors = next(&r, 4 * (uint64_t)s->positions * width);
    for (int i = 0; i < s->layers; i++) {
        layer l = next_layer(&r, s);
        if (model) model->layers[i] = l;
    }
    m->last_norm = next_norm(&r, s->width);
    m->heads = next(&r, 2 * (uint64_t)m->head_panels * PANEL * width);
    m->head_scales = next(&r, 4 * (uint64_t)m->head_panels * PANEL);
    return r.at;
}

uint64_t weight_file_bytes(const mg_sizes *sizes) { return read_model(NULL, sizes, NULL); }

static int within(int32_t value, int32_t least, int32_t most) { return least <= value && value <= most; }

/* The kernels work on 16 values at a time; heads of more than 256 would overflow the sums of a product of a query. */
static int valid(const mg_sizes *s) {
    return within(s->layers, 1, MOST_LAYERS) && within(s->width, 16, MOST_WIDTH) && s->width % 16 == 0 &&
           within(s->heads, 1, s->width / 16) && s->width % (16 * s->heads) == 0 && s->width / s->heads <= 256 &&
           within(s->ffn, 16, MOST_WIDTH) && s->ffn % 16 == 0 && within(s->vocab, 1, MOST_CODES) &&
           within(s->codebooks, 1, 64) && within(s->positions, 1, MOST_POSITIONS) && within(s->activation, GELU, RELU) &&
           within(s->cross, 0, 1);
}

int mg_model_new(const void *file, size_t bytes, mg_model **result) {
    if (!file || !result || (uintptr_t)file % ALIGNMENT) return MG_BAD_ARGUMENT;
    uint32_t version;
    mg_sizes sizes;
    if (bytes < HEADER || memcmp(file, "musicgen", 8)) return MG_BAD_FILE;
    memcpy(&version, (const uint8_t *)file + 8, sizeof version);
    memcpy(&sizes, (const uint8_t *)file + 12, sizeof sizes);
    if (version != MG_ABI || !valid(&sizes) || weight_file_bytes(&sizes) != bytes) return MG_BAD_FILE;
    mg_model *model = malloc(sizeof *model + (size_t)sizes.layers * sizeof *model->layers);
    if (!model) return MG_NO_MEMORY;
    read_model(file, &sizes, model);
    *result = model;
    return MG_OK;
}

void mg_model_free(mg_model *model) { free(model); }

const mg_sizes *mg_model_sizes(const mg_model *model) { return &model->sizes; }
