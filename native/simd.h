/*
 * What a file of an instruction set defines (simd_avx512.h, simd_avx256.h, simd_neon.h), in terms of which the step is
 * written once.
 *
 *   LANES, vf        floats that one vector holds
 *   begin_floats     set the modes of rounding and of tiny numbers that a thread has by default, and return those
 *                    that it had, for end_floats
 *   vhalf            LANES values of float16
 *   vscale2(a, n)    a times 2 to the power of n, which are whole numbers
 *   vgreatest        over the lanes
 *
 *   code             the type of activations' codes
 *   SPLIT_FINE       1: a code has 8 bits, and so fine codes are two of them
 *   store_codes(v, to, stride, sum)
 *                    round, and store each 4 codes `stride` codes after the last ones; add them to the lanes of `sum`
 *   store_split(v, to, high_sum, low_sum)
 *                    round to whole numbers of 16 bits, and store them as 256 * high + low, the two rows of a product:
 *                    four high, four low, four high ...
 *   store_bytes      round and store as bytes plus 128, clipped to -128 to 127
 *
 *   PARTS            registers that 64 bytes of weights, 4 inputs of 16 outputs, take
 *   dot(sum, part, codes)
 *                    add to each output's sum the products of 4 inputs; OFFSET times the sum of the codes too much
 *   store_sums       store a part's sums, of 16 / PARTS outputs
 *   vints(p, less)   LANES sums, less something
 *   vints_sums(p, less, sums)      the same, and 128 times LANES other sums
 *   vpairs(high, low, less)        256 * high + low - less
 *
 * How much is in registers at once:
 *   MOST_ROWS              of a product
 *   PARTS_AT_ONCE(rows)
 *   CHAINS(rows)           sums of alternate inputs, so that no sum waits for the one before
 *   VALUE_PANELS           panels of values in attention
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define FETCH(p) __builtin_prefetch((p), 0, 3)
#define FETCH_TO_WRITE(p) __builtin_prefetch((p), 1, 3)
