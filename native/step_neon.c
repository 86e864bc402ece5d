/* The step with NEON dot products. */
#include "simd.h"
#include "simd_neon.h"
#include "step.inc.h"

void step_neon(void *decoder, team *team) { step(decoder, team); }
