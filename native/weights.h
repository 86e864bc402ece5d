/*
 * The weight file: a header, then every tensor in a fixed order, each on a boundary of 64 bytes.
 *
 * All sizes follow from the header, so there is no table of offsets that could point outside, and a file of another
 * size is refused. Numbers are little-endian.
 *
 *     0   8 bytes "musicgen"
 *     8   uint32 MG_ABI
 *     12  the nine int32 of mg_sizes
 *     48  16 bytes of zeros
 *
 *     embeddings   float32 (codebooks, vocab + 1, width)
 *     position vectors   float32 (positions, width)
 *     of each layer:
 *         norm, then the matrices of self-attention: query, key and value as one, output
 *         with cross-attention: norm, query, output
 *         norm, fc1, fc2, the sums of the blocks of fc2's columns int32 (blocks, width)
 *     norm
 *     heads: float16, and their scales
 *
 * A norm is a weight and a bias, float32 (width) each. A matrix of `inputs` by `outputs` has codes of 8 bits and a
 * float32 scale for each output. It is stored by panels of 16 outputs, and a panel by vectors of 64 bytes, which hold
 * 4 inputs of each of 16 outputs: (outputs / 16, inputs / 4, 16, 4), each code plus 128. The same bytes serve all
 * instruction sets: one vector is what a dot product of 4 bytes by 16 lanes wants.
 * The heads are (panels, inputs, 16); columns that fill up the last panel are zero. A column is divided by a power of
 * two, its scale, so that float16 can hold any.
 */
#ifndef WEIGHTS_H
#define WEIGHTS_H
#include "musicgen.h"

#define PANEL 16  /* outputs of a panel */
#define BLOCK 512 /* inputs that are summed as whole numbers; the last block of a row may have fewer */

enum { GELU = 0, GELU_NEW = 1, RELU = 2 };

typedef struct {
    int inputs, outputs;
    const uint8_t *codes;
    const float *scales;
} matrix;

typedef struct {
    const float *weight, *bias;
} norm;

typedef struct {
    norm self_norm, cross_norm, ffn_norm;
    matrix qkv, out, cross_query, cross_out, fc1, fc2;
    const int32_t *fc2_sums; /* (blocks, outputs) */
} layer;

struct mg_model {
    mg_sizes sizes;
    int head_width, head_panels; /* the panels of all codebooks' heads together */
    const float *embeddings, *position_vectors;
    norm last_norm;
    const uint16_t *heads; /* float16 */
    const float *head_scales;
    layer layers[];
};

static inline int blocks_of(int inputs) { return (inputs + BLOCK - 1) / BLOCK; }

/* Return the size of the file of a model; its sizes must be valid. */
uint64_t weight_file_bytes(const mg_sizes *sizes);

#endif
