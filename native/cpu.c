/* Which instruction sets this processor and its operating system have. */
#include "musicgen.h"

#if defined(__x86_64__)

#include <cpuid.h>

typedef struct {
    uint32_t a, b, c, d;
} registers;

static registers cpuid(uint32_t leaf, uint32_t subleaf) {
    registers r = {0, 0, 0, 0};
    __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
    return r;
}

/* Which registers the operating system saves when it switches threads. */
static uint64_t saved_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int has(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

int mg_has_isa(int isa) {
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, F16C = 1 << 29 };                    /* leaf 1, ecx */
    enum { AVX2 = 1 << 5, AVX512_F_DQ = 1 << 16 | 1 << 17, AVX512_BW = 1 << 30 }; /* leaf 7, ebx */
    enum { AVX512_VNNI = 1 << 11, AVX_VNNI = 1 << 4 };                            /* leaf 7, ecx; leaf 7.1, eax */
    const uint32_t avx512_vl = (uint32_t)1 << 31;
    enum { YMM = 0x6, ZMM = 0xE6 };
    const registers one = cpuid(1, 0), seven = cpuid(7, 0);
    if (!has(one.c, OSXSAVE)) return 0;
    const uint64_t saved = saved_state();
    const int avx2 = has(one.c, FMA | F16C) && has(seven.b, AVX2) && (saved & YMM) == YMM;
    switch (isa) {
    case MG_AVX512_VNNI:
        return avx2 && has(seven.b, AVX512_F_DQ | AVX512_BW | avx512_vl) && has(seven.c, AVX512_VNNI) &&
               (saved & ZMM) == ZMM;
    case MG_AVX_VNNI: return avx2 && has(cpuid(7, 1).a, AVX_VNNI);
    case MG_AVX2: return avx2;
    default: return 0;
    }
}

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>

int mg_has_isa(int isa) {
    enum { DOT_PRODUCTS = 1 << 20 }; /* HWCAP_ASIMDDP */
    return isa == MG_NEON_DOT && (getauxval(AT_HWCAP) & DOT_PRODUCTS);
}

#elif defined(__aarch64__) && defined(__APPLE__)

int mg_has_isa(int isa) { return isa == MG_NEON_DOT; } /* all of Apple's processors of this kind since M1 */

#elif defined(__aarch64__) && defined(_WIN32)

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

int mg_has_isa(int isa) {
    enum { DOT_PRODUCTS = 43 }; /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE */
    return isa == MG_NEON_DOT && IsProcessorFeaturePresent(DOT_PRODUCTS);
}

#else

int mg_has_isa(int isa) {
    (void)isa;
    return 0;
}

#endif

int mg_abi(void) { return MG_ABI; }
