/*
 * ARMv8.2 with dot products (sdot): 4 floats at a time. simd.h tells what each function is for.
 *
 * Apple's M1 and later, Graviton 2 and later, Raspberry Pi 5.
 */
#include <arm_neon.h>

#define LANES 4
#define OFFSET 0 /* codes of weights get their sign back in a register: sdot multiplies signed by signed bytes */
#define MOST_ROWS 16
#define VALUE_PANELS 2

typedef float32x4_t vf;
typedef int32x4_t vi;
typedef int8_t code;
#define SPLIT_FINE 1

INLINE uint64_t begin_floats(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr\n\tmsr fpcr, xzr" : "=r"(before));
    return before;
}
INLINE void end_floats(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }

INLINE vf vload(const float *p) { return vld1q_f32(p); }
INLINE void vstore(float *p, vf v) { vst1q_f32(p, v); }
INLINE vf vset(float a) { return vdupq_n_f32(a); }
INLINE vf vadd(vf a, vf b) { return vaddq_f32(a, b); }
INLINE vf vsub(vf a, vf b) { return vsubq_f32(a, b); }
INLINE vf vmul(vf a, vf b) { return vmulq_f32(a, b); }
INLINE vf vdiv(vf a, vf b) { return vdivq_f32(a, b); }
INLINE vf vfma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
INLINE vf vmax(vf a, vf b) { return vmaxq_f32(a, b); }
INLINE vf vmin(vf a, vf b) { return vminq_f32(a, b); }
INLINE vf vabs(vf a) { return vabsq_f32(a); }
INLINE vf vround(vf a) { return vrndnq_f32(a); }
INLINE float vgreatest(vf a) { return vmaxvq_f32(a); }
INLINE vf vscale2(vf a, vf n) { /* adds to the exponent; the result is neither subnormal nor infinite */
    return vreinterpretq_f32_s32(vaddq_s32(vshlq_n_s32(vcvtnq_s32_f32(n), 23), vreinterpretq_s32_f32(a)));
}
INLINE vf vcopysign(vf size, vf sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, size); }
INLINE vf vhalf(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }

INLINE vf vints(const int32_t *p, int32_t less) { return vcvtq_f32_s32(vsubq_s32(vld1q_s32(p), vdupq_n_s32(less))); }
INLINE vf vints_sums(const int32_t *p, int32_t less, const int32_t *sums) {
    return vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(vld1q_s32(sums), 7), vsubq_s32(vld1q_s32(p), vdupq_n_s32(less))));
}
INLINE vf vpairs(const int32_t *high, const int32_t *low, int32_t less) {
    return vcvtq_f32_s32(vsubq_s32(vaddq_s32(vshlq_n_s32(vld1q_s32(high), 8), vld1q_s32(low)), vdupq_n_s32(less)));
}

INLINE vi vzero(void) { return vdupq_n_s32(0); }
INLINE vi viadd(vi a, vi b) { return vaddq_s32(a, b); }
INLINE int32_t visum(vi a) { return vaddvq_s32(a); }

INLINE vi store_codes(vf v, code *to, size_t stride, vi sum) {
    const int32x4_t whole = vcvtnq_s32_f32(v);
    const int16x4_t words = vmovn_s32(whole);
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    (void)stride;
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
    memcpy(to, &four, 4);
    return vaddq_s32(sum, whole);
}
INLINE void store_split(vf v, code *to, vi *high_sum, vi *low_sum) {
    const int32x4_t whole = vcvtnq_s32_f32(v);
    const int32x4_t high = vshrq_n_s32(vaddq_s32(whole, vdupq_n_s32(128)), 8);
    const int32x4_t low = vsubq_s32(whole, vshlq_n_s32(high, 8));
    *high_sum = vaddq_s32(*high_sum, high);
    *low_sum = vaddq_s32(*low_sum, low);
    vst1_s8(to, vmovn_s16(vcombine_s16(vmovn_s32(high), vmovn_s32(low))));
}
INLINE void store_bytes(vf v, uint8_t *to) {
    const int16x4_t words = vqmovn_s32(vcvtnq_s32_f32(v));
    const uint8x8_t bytes = vreinterpret_u8_s8(vqmovn_s16(vcombine_s16(words, words)));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(veor_u8(bytes, vdup_n_u8(128))), 0);
    memcpy(to, &four, 4);
}

#define PARTS 4
INLINE vi load_part(const uint8_t *p) { return vreinterpretq_s32_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(128))); }
INLINE vi load_codes(const code *p) {
    int32_t four;
    memcpy(&four, p, 4);
    return vdupq_n_s32(four);
}
INLINE vi dot(vi sum, vi part, vi codes) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(part), vreinterpretq_s8_s32(codes));
}
INLINE void store_sums(vi sum, int32_t *to) { vst1q_s32(to, sum); }

#define PARTS_AT_ONCE(rows) ((rows) <= 6 ? 4 : (rows) <= 12 ? 2 : 1)
#define CHAINS(rows) ((rows) == 1 ? 2 : 1)
