/* The step with AVX2. */
#include "simd.h"
#include "simd_avx256.h"
#include "step.inc.h"

void step_avx2(void *decoder, team *team) { step(decoder, team); }
