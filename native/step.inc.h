/* One step of the decoder, for the instruction set whose simd_*.h was included before. */
#include <math.h>

#include "decoder.h"
#include "functions.inc.h"
#include "product.inc.h"
#include "attention.inc.h"
#include "heads.inc.h"

/* The residual stream begins with the embedded tokens, or given vectors, and the vector of the position. */
static void embed(mg_decoder *d, team *team) {
    const mg_sizes *s = &d->model->sizes;
    const size_t width = (size_t)s->width;
    int victim = 0, i, end;
    while (take(team, d->count, 1, &victim, &i, &end)) {
        const float *position = d->model->position_vectors + (size_t)d->at_positions[i] * width;
        float *x = d->x + (size_t)i * width;
        if (d->inputs)
            memcpy(x, d->inputs + (size_t)i * width, width * sizeof *x);
        else
            memset(x, 0, width * sizeof *x);
        for (int k = 0; !d->inputs && k < s->codebooks; k++) {
            const size_t token = (size_t)k * ((size_t)s->vocab + 1) + (size_t)d->tokens[i * s->codebooks + k];
            const float *embedding = d->model->embeddings + token * width;
            for (size_t j = 0; j < width; j += LANES) vstore(x + j, vadd(vload(x + j), vload(embedding + j)));
        }
        for (size_t j = 0; j < width; j += LANES) vstore(x + j, vadd(vload(x + j), vload(position + j)));
    }
    end_phase(team);
}

static void run_layer(mg_decoder *d, team *team, int number) {
    const layer *l = &d->model->layers[number];
    const size_t width = (size_t)d->model->sizes.width, ffn = (size_t)d->model->sizes.ffn;
    const int32_t *sums = l->fc2_sums;
    const int all = d->count, texted = d->texted;
    /* What a thread needs that has left, and goes through the rest of the layer without doing anything, is read here. */
    const input normed = {d->x, width, NULL, all, &l->self_norm, PLAIN}, attended = {d->h, width, NULL, all, NULL, FINE};
    const input asking = {d->x, width, d->text_rows, texted, &l->cross_norm, PLAIN};
    const input answered = {d->h, width, NULL, texted, NULL, PLAIN};
    const input inner = {d->x, width, NULL, all, &l->ffn_norm, PLAIN}, active = {d->wide, ffn, NULL, all, NULL, FLOORED};
    const output qkv = {d->y, 3 * width, NULL, STORE}, query = {d->y, width, NULL, STORE};
    const output wide = {d->wide, ffn, NULL, ACTIVATE};
    const output residual = {d->x, width, NULL, ADD}, text_residual = {d->x, width, d->text_rows, ADD};

    multiply(d, team, &l->qkv, &normed, &qkv, NULL);
    self_attention(d, team, number);
    multiply(d, team, &l->out, &attended, &residual, NULL);
    if (texted) { /* other rows look at keys and values of zero, and add nothing */
        multiply(d, team, &l->cross_query, &asking, &query, NULL);
        cross_attention(d, team, number);
        multiply(d, team, &l->cross_out, &answered, &text_residual, NULL);
    }
    multiply(d, team, &l->fc1, &inner, &wide, NULL);
    multiply(d, team, &l->fc2, &active, &residual, sums);
}

static void step(mg_decoder *d, team *team) {
    /* Read here: after the last phase, another thread may already have begun the next step, or have freed the decoder. */
    const int layers = d->model->sizes.layers, wanted = d->wanted;
    const uint64_t before = begin_floats(); /* another library may have changed them in the caller's thread alone */
    embed(d, team);
    for (int i = 0; i < layers && !has_left(team); i++) run_layer(d, team, i);
    if (!has_left(team) && wanted) compute_logits(d, team);
    end_floats(before);
}
