/* A decoder's memory, which the steps of all instruction sets share. */
#ifndef DECODER_H
#define DECODER_H
#include "pool.h"
#include "weights.h"

/* Rows of a batch up to which each thread prepares all of a matrix's inputs for itself, which saves two waits for the
 * other threads; of more rows each thread prepares a share. */
#define FEW 4
#define TILE 16 /* positions */

/* What the cross-attention of a row reads; keys is NULL for an unconditional row. */
typedef struct {
    const float *keys, *values;
    int length, used;
} text;

/* Successive row-positions of a batch that belong to the same row of the KV cache. */
typedef struct {
    int first, count;
} group;

/* Memory of one thread. */
typedef struct {
    void *codes;             /* of FEW rows */
    float *normed;           /* FEW rows */
    float *steps;            /* (FEW, blocks): what one code means */
    int32_t *sums;           /* (batch, blocks): the sum of the codes */
    int32_t *partial_sums;   /* (batch, blocks): of those that this thread made */
    float *scores;           /* of one head */
    void *split;             /* the same as codes of two bytes */
} scratch;

struct mg_decoder {
    const mg_model *model;
    mg_pool *pool;
    job_fn step;
    int rows, positions, batch;

    /*
     * KV cache: for each row, block of 16 positions, layer and head a tile of keys and a tile of values, in codes plus
     * 128. Positions are outside, so that short clips use little memory although it comes in large pages.
     * A tile of keys is (head width / 4, 16 positions, 4), a panel whose outputs are positions; a tile of values is
     * (head width / 16, 4, 16 channels, 4 positions), panels whose inputs are positions.
     */
    uint8_t *cache;
    size_t cache_bytes;
    size_t tile, layer_stride, block_stride, row_stride;

    void *memory; /* of everything below */
    size_t memory_bytes;
    float *scales; /* of keys and values, (layers, 2, width) */
    text *texts;   /* of each row */
    scratch *scratch;
    int scores; /* how many each thread has memory for */
    void *score_memory;
    size_t score_bytes;

    float *x;      /* (batch, width): the residual stream */
    float *h;      /* (batch, width): normalised rows, or results of attention */
    float *y;      /* (batch, 3 * width): queries, keys and values */
    float *wide;   /* (batch, ffn) */
    void *codes;   /* of a matrix's inputs, by chunks of rows */
    float *steps;  /* (batch, blocks): what one code means */

    /* One call */
    int count, wanted, groups, texted;
    const int64_t *at_rows, *at_positions, *tokens;
    const float *inputs;
    float *logits;
    group *group;
    int *text_rows; /* those row-positions of the batch whose rows have a text */
};

static inline const uint8_t *tiles_of(const mg_decoder *d, int row, int layer, int head) {
    return d->cache + (size_t)row * d->row_stride + (size_t)layer * d->layer_stride + (size_t)head * 2 * d->tile;
}

void step_avx512(void *decoder, team *team);
void step_avxvnni(void *decoder, team *team);
void step_avx2(void *decoder, team *team);
void step_neon(void *decoder, team *team);

#endif
