/*
 * AVX2 with FMA and F16C: 8 floats at a time. simd.h tells what each function is for.
 *
 * With AVX-VNNI one instruction multiplies unsigned by signed bytes and adds four products. Without it bytes are
 * widened to 16 bits and multiplied by vpmaddwd, which is exact; vpmaddubsw would saturate.
 */
#include <immintrin.h>

#define LANES 8
#define OFFSET 128 /* codes of weights are unsigned in the dot product, and so 128 more than they mean */

typedef __m256 vf;
typedef __m256i vi;

INLINE uint64_t begin_floats(void) {
    const uint64_t before = _mm_getcsr();
    _mm_setcsr(0x1F80);
    return before;
}
INLINE void end_floats(uint64_t before) { _mm_setcsr((unsigned)before); }

INLINE vf vload(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vstore(float *p, vf v) { _mm256_storeu_ps(p, v); }
INLINE vf vset(float a) { return _mm256_set1_ps(a); }
INLINE vf vadd(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf vsub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf vmul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INLINE vf vdiv(vf a, vf b) { return _mm256_div_ps(a, b); }
INLINE vf vfma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf vabs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
INLINE vf vround(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE float vgreatest(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
INLINE vf vscale2(vf a, vf n) { /* adds to the exponent; the result is neither subnormal nor infinite */
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_castps_si256(a)));
}
INLINE vf vcopysign(vf size, vf sign) {
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, size), _mm256_and_ps(bit, sign));
}
INLINE vf vhalf(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }

INLINE __m256i load8(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE vf vints(const int32_t *p, int32_t less) {
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(load8(p), _mm256_set1_epi32(less)));
}
INLINE vf vints_sums(const int32_t *p, int32_t less, const int32_t *sums) {
    __m256i shifted = _mm256_slli_epi32(load8(sums), 7);
    return _mm256_cvtepi32_ps(_mm256_add_epi32(shifted, _mm256_sub_epi32(load8(p), _mm256_set1_epi32(less))));
}
INLINE vf vpairs(const int32_t *high, const int32_t *low, int32_t less) {
    __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(load8(high), 8), load8(low));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(sum, _mm256_set1_epi32(less)));
}

INLINE vi vzero(void) { return _mm256_setzero_si256(); }
INLINE vi viadd(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE int32_t visum(vi a) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
/* 8 whole numbers as 16 bits */
INLINE __m128i narrow(__m256i v) {
    return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
INLINE void store_bytes(vf v, uint8_t *to) {
    const __m128i words = narrow(_mm256_cvtps_epi32(v));
    _mm_storel_epi64((__m128i *)to, _mm_xor_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(INT8_MIN)));
}
INLINE void halve(vf v, __m256i *high, __m256i *low, vi *high_sum, vi *low_sum) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    *high = _mm256_srai_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(128)), 8);
    *low = _mm256_sub_epi32(whole, _mm256_slli_epi32(*high, 8));
    *high_sum = _mm256_add_epi32(*high_sum, *high);
    *low_sum = _mm256_add_epi32(*low_sum, *low);
}

#ifdef __AVXVNNI__

#define MOST_ROWS 6 /* more would need more registers than there are */
#define VALUE_PANELS 2
#define PARTS 2
#define PARTS_AT_ONCE(rows) 2
#define CHAINS(rows) ((rows) <= 2 ? 2 : 1)
typedef int8_t code;
#define SPLIT_FINE 1

INLINE vi store_codes(vf v, code *to, size_t stride, vi sum) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    const __m128i words = narrow(whole), bytes = _mm_packs_epi16(words, words);
    const int32_t second = _mm_extract_epi32(bytes, 1);
    _mm_storeu_si32(to, bytes);
    memcpy(to + stride, &second, 4);
    return _mm256_add_epi32(sum, whole);
}
INLINE void store_split(vf v, code *to, vi *high_sum, vi *low_sum) {
    __m256i high, low;
    halve(v, &high, &low, high_sum, low_sum);
    /* In each half: four high bytes, then four low ones. */
    const __m256i words = _mm256_packs_epi32(high, low);
    const __m256i bytes = _mm256_packs_epi16(words, words);
    _mm_storel_epi64((__m128i *)to, _mm256_castsi256_si128(bytes));
    _mm_storel_epi64((__m128i *)(to + 8), _mm256_extracti128_si256(bytes, 1));
}

INLINE vi load_part(const uint8_t *p) { return _mm256_load_si256((const __m256i *)p); }
INLINE vi load_codes(const code *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm256_set1_epi32(four);
}
INLINE vi dot(vi sum, vi part, vi codes) { return _mm256_dpbusd_avx_epi32(sum, part, codes); }
INLINE void store_sums(vi sum, int32_t *to) { _mm256_storeu_si256((__m256i *)to, sum); }

#else

#define MOST_ROWS 4 /* with two parts at once: more rows by one part load more codes for each product */
#define VALUE_PANELS 1
#define PARTS 4
#define PARTS_AT_ONCE(rows) ((rows) <= 2 ? 4 : 2) /* as many as there are registers for */
#define CHAINS(rows) 1
typedef int16_t code;
#define SPLIT_FINE 0

INLINE vi store_codes(vf v, code *to, size_t stride, vi sum) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    const __m128i words = narrow(whole);
    _mm_storel_epi64((__m128i *)to, words);
    _mm_storel_epi64((__m128i *)(to + stride), _mm_unpackhi_epi64(words, words));
    return _mm256_add_epi32(sum, whole);
}
INLINE void store_split(vf v, code *to, vi *high_sum, vi *low_sum) {
    __m256i high, low;
    halve(v, &high, &low, high_sum, low_sum);
    _mm256_storeu_si256((__m256i *)to, _mm256_packs_epi32(high, low)); /* in each half: four high, four low */
}

/* Widened, a part is 4 inputs of each of 4 outputs; vpmaddwd leaves two sums of each output. */
INLINE vi load_part(const uint8_t *p) { return _mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)p)); }
INLINE vi load_codes(const code *p) {
    int64_t four;
    memcpy(&four, p, 8);
    return _mm256_set1_epi64x(four);
}
INLINE vi dot(vi sum, vi part, vi codes) { return _mm256_add_epi32(sum, _mm256_madd_epi16(part, codes)); }
INLINE void store_sums(vi sum, int32_t *to) {
    const __m128i low = _mm256_castsi256_si128(sum), high = _mm256_extracti128_si256(sum, 1);
    _mm_storeu_si128((__m128i *)to, _mm_hadd_epi32(low, high));
}

#endif
