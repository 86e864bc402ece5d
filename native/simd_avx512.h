/* AVX-512 F, BW, VL, DQ with VNNI: 16 floats at a time. simd.h tells what each function is for. */
#include <immintrin.h>

#define LANES 16
#define OFFSET 128 /* codes of weights are unsigned in the dot product, and so 128 more than they mean */
#define MOST_ROWS 16
#define VALUE_PANELS 4

typedef __m512 vf;
typedef __m512i vi;
typedef int8_t code;
#define SPLIT_FINE 1

INLINE uint64_t begin_floats(void) {
    const uint64_t before = _mm_getcsr();
    _mm_setcsr(0x1F80);
    return before;
}
INLINE void end_floats(uint64_t before) { _mm_setcsr((unsigned)before); }

INLINE vf vload(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vstore(float *p, vf v) { _mm512_storeu_ps(p, v); }
INLINE vf vset(float a) { return _mm512_set1_ps(a); }
INLINE vf vadd(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf vsub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf vmul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf vdiv(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf vfma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf vabs(vf a) { return _mm512_abs_ps(a); }
INLINE vf vround(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE float vgreatest(vf a) { return _mm512_reduce_max_ps(a); }
INLINE vf vscale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }
INLINE vf vcopysign(vf size, vf sign) {
    const __m512i bit = _mm512_set1_epi32(INT32_MIN); /* 0xD8: the second operand where the third is set, else the first */
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(_mm512_castps_si512(size), _mm512_castps_si512(sign), bit, 0xD8));
}
INLINE vf vhalf(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

INLINE vf vints(const int32_t *p, int32_t less) {
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(p), _mm512_set1_epi32(less)));
}
INLINE vf vints_sums(const int32_t *p, int32_t less, const int32_t *sums) {
    __m512i shifted = _mm512_slli_epi32(_mm512_loadu_si512(sums), 7);
    return _mm512_cvtepi32_ps(
        _mm512_add_epi32(shifted, _mm512_sub_epi32(_mm512_loadu_si512(p), _mm512_set1_epi32(less))));
}
INLINE vf vpairs(const int32_t *high, const int32_t *low, int32_t less) {
    __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(_mm512_loadu_si512(high), 8), _mm512_loadu_si512(low));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(less)));
}

INLINE vi vzero(void) { return _mm512_setzero_si512(); }
INLINE int32_t visum(vi a) { return _mm512_reduce_add_epi32(a); }

INLINE vi store_codes(vf v, code *to, size_t stride, vi sum) {
    const __m512i whole = _mm512_cvtps_epi32(v);
    const __m128i bytes = _mm512_cvtepi32_epi8(whole);
    _mm_storeu_si32(to, bytes);
    const int32_t b1 = _mm_extract_epi32(bytes, 1), b2 = _mm_extract_epi32(bytes, 2), b3 = _mm_extract_epi32(bytes, 3);
    memcpy(to + stride, &b1, 4);
    memcpy(to + 2 * stride, &b2, 4);
    memcpy(to + 3 * stride, &b3, 4);
    return _mm512_add_epi32(sum, whole);
}

INLINE void store_split(vf v, code *to, vi *high_sum, vi *low_sum) {
    const __m512i whole = _mm512_cvtps_epi32(v);
    const __m512i high = _mm512_srai_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(128)), 8);
    const __m512i low = _mm512_sub_epi32(whole, _mm512_slli_epi32(high, 8));
    *high_sum = _mm512_add_epi32(*high_sum, high);
    *low_sum = _mm512_add_epi32(*low_sum, low);
    const __m128i a = _mm512_cvtepi32_epi8(high), b = _mm512_cvtepi32_epi8(low);
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi32(a, b));
    _mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi32(a, b));
}

INLINE void store_bytes(vf v, uint8_t *to) {
    const __m128i bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v));
    _mm_storeu_si128((__m128i *)to, _mm_xor_si128(bytes, _mm_set1_epi8(INT8_MIN)));
}

#define PARTS 1
INLINE vi load_part(const uint8_t *p) { return _mm512_load_si512(p); }
INLINE vi load_codes(const code *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return _mm512_set1_epi32(four);
}
INLINE vi dot(vi sum, vi part, vi codes) { return _mm512_dpbusd_epi32(sum, part, codes); }
INLINE vi viadd(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE void store_sums(vi sum, int32_t *to) { _mm512_storeu_si512(to, sum); }

#define PARTS_AT_ONCE(rows) 1
#define CHAINS(rows) ((rows) <= 2 ? 4 : (rows) <= 4 ? 2 : 1)
