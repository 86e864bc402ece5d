/*
 * The decoder of MusicGen as one native call: what the Python package binds with ctypes.
 *
 * A model is a mapped weight file (weights.h describes it). A decoder has a KV cache of some rows, and a pool of threads
 * to compute with. One call advances any rows, each at its own position, or one row by many positions.
 *
 * Every function checks its arguments and returns one of the codes below; none prints, exits or keeps a lock. A decoder
 * may be used by one thread at a time, a pool by several decoders, one call after the other.
 *
 * A row's results don't depend, not even in their last bit, on other rows, on its index or on the number of threads:
 * sums of products are whole numbers, which are exact, and floats are summed in an order that depends on sizes alone.
 */
#ifndef MUSICGEN_H
#define MUSICGEN_H
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define MG_API __declspec(dllexport)
#else
#define MG_API __attribute__((visibility("default")))
#endif

#ifndef MG_ABI /* a test compiles another one */
#define MG_ABI 2 /* raised with every change of this header or of the weight file */
#endif

enum {
    MG_OK = 0,
    MG_NO_MEMORY = 1,
    MG_BAD_ARGUMENT = 2, /* a size, an index or a position is out of range */
    MG_BAD_FILE = 3,     /* not a weight file of this version, or its size doesn't follow from its header */
    MG_UNSUPPORTED = 4,  /* this processor doesn't have the instruction set */
};

/* Instruction sets, the preferred ones first. The numbers are part of the ABI. */
enum { MG_AVX512_VNNI = 1, MG_AVX_VNNI = 2, MG_AVX2 = 3, MG_NEON_DOT = 4, MG_ISA_COUNT = 5 };

typedef struct mg_pool mg_pool;
typedef struct mg_model mg_model;
typedef struct mg_decoder mg_decoder;

/* Sizes of a model, as the header of its file has them. */
typedef struct {
    int32_t layers, width, heads, ffn, vocab, codebooks, positions;
    int32_t activation; /* 0 gelu, 1 gelu_new, 2 relu */
    int32_t cross;      /* 1: rows can have a text, which cross-attention reads */
} mg_sizes;

MG_API int mg_abi(void);

/* Return whether this build and this processor have an instruction set. */
MG_API int mg_has_isa(int isa);

/*
 * Threads: the caller of `mg_run` and `threads - 1` others, which sleep while there is nothing to do.
 *
 * patient: compute with all of them even where other programs use the processors, and they wait for each other.
 */
MG_API int mg_pool_new(int threads, int patient, mg_pool **pool);
MG_API void mg_pool_free(mg_pool *pool);

/* Describe the `bytes` bytes of a weight file at `file`, aligned to 64 bytes, which must outlive the model. */
MG_API int mg_model_new(const void *file, size_t bytes, mg_model **model);
MG_API void mg_model_free(mg_model *model);
MG_API const mg_sizes *mg_model_sizes(const mg_model *model);

/*
 * Make a decoder; the memory of its KV cache is committed only as it is used.
 *
 * rows: of the KV cache.  positions: of each row, at most those of the model.
 * batch: the most row-positions that one call of `mg_run` computes.
 * scales: of keys and values, (layers, 2, width), which are copied.
 */
MG_API int mg_decoder_new(const mg_model *model, mg_pool *pool, int isa, int rows, int positions, int batch,
                          const float *scales, mg_decoder **decoder);
MG_API void mg_decoder_free(mg_decoder *decoder);

/*
 * Set what the cross-attention of a row reads from now on.
 *
 * text: NULL for an unconditional row; else keys (layers, heads, head width, length) and after them values (layers,
 * heads, length, head width), which must stay where they are. length: a multiple of 16.  used: tokens that count, the
 * others are padding.
 */
MG_API int mg_set_text(mg_decoder *decoder, int row, const float *text, int length, int used);

/* Copy the first `positions` entries of a row's KV cache to another row, and its text. */
MG_API int mg_move(mg_decoder *decoder, int source, int target, int positions);

/*
 * Compute `count` row-positions.
 *
 * rows, positions: of each. A row may occur several times in succession, at successive positions; the result is then
 * the same to the bit as that of one call for each. All earlier positions of a row must have been computed.
 * tokens: (count, codebooks), each from 0 to vocab.  inputs: (count, width), used instead of embedded tokens; either.
 * logits: (wanted, codebooks, vocab) of the last `wanted` row-positions.
 */
MG_API int mg_run(mg_decoder *decoder, int count, const int64_t *rows, const int64_t *positions, const int64_t *tokens,
                  const float *inputs, int wanted, float *logits);

#endif
