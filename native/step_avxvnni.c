/* The step with AVX-VNNI (256 bits). */
#include "simd.h"
#include "simd_avx256.h"
#include "step.inc.h"

void step_avxvnni(void *decoder, team *team) { step(decoder, team); }
