/* The step with AVX-512 VNNI. */
#include "simd.h"
#include "simd_avx512.h"
#include "step.inc.h"

void step_avx512(void *decoder, team *team) { step(decoder, team); }
