/*
 * Functions of vectors of floats.
 *
 * Sums go over 16 lanes, however many a vector has, so that every instruction set gives the same bits.
 */

enum { VECTORS = 16 / LANES };

/* Cephes' expf, which is within 2 units in the last place; not for infinities. */
INLINE vf vexp(vf x) {
    x = vmin(vmax(x, vset(-87.0f)), vset(88.0f));
    const vf n = vround(vmul(x, vset(1.44269504088896341f)));
    x = vfma(n, vset(-0.693359375f), x); /* ln 2 in two parts */
    x = vfma(n, vset(2.12194440e-4f), x);
    vf p = vset(1.9875691500e-4f);
    p = vfma(p, x, vset(1.3981999507e-3f));
    p = vfma(p, x, vset(8.3334519073e-3f));
    p = vfma(p, x, vset(4.1665795894e-2f));
    p = vfma(p, x, vset(1.6666665459e-1f));
    p = vfma(p, x, vset(5.0000001201e-1f));
    p = vfma(vmul(p, x), x, vadd(x, vset(1.0f)));
    return vscale2(p, n);
}

/* x / 2 (1 + erf(x / sqrt 2)); erf by Abramowitz and Stegun 7.1.26, which is within 1.5e-7. */
INLINE vf gelu(vf x) {
    const vf z = vmul(vabs(x), vset(0.70710678118654752f));
    const vf t = vdiv(vset(1.0f), vfma(z, vset(0.3275911f), vset(1.0f)));
    vf p = vset(1.061405429f);
    p = vfma(p, t, vset(-1.453152027f));
    p = vfma(p, t, vset(1.421413741f));
    p = vfma(p, t, vset(-0.284496736f));
    p = vfma(p, t, vset(0.254829592f));
    const vf rest = vmul(vmul(p, t), vexp(vsub(vset(0.0f), vmul(z, z))));
    const vf erf = vcopysign(vsub(vset(1.0f), rest), x);
    const vf half = vmul(x, vset(0.5f));
    return vfma(half, erf, half);
}

/* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is x times the logistic function of twice that. */
INLINE vf gelu_new(vf x) {
    const vf cubic = vfma(vmul(vmul(x, x), x), vset(0.044715f), x);
    const vf twice = vmul(cubic, vset(1.59576912160573071f));
    return vdiv(x, vadd(vset(1.0f), vexp(vsub(vset(0.0f), twice))));
}

INLINE vf activate(int activation, vf x) {
    if (activation == GELU) return gelu(x);
    if (activation == GELU_NEW) return gelu_new(x);
    return vmax(x, vset(0.0f));
}

/* The sum of 16 lanes */
static float sum16(const vf v[VECTORS]) {
    float lanes[16];
    for (int j = 0; j < VECTORS; j++) vstore(lanes + j * LANES, v[j]);
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* torch.nn.LayerNorm */
static void normalise(const float *x, const norm *norm, int width, float *to) {
    vf sum[VECTORS], squares[VECTORS];
    for (int j = 0; j < VECTORS; j++) sum[j] = squares[j] = vset(0.0f);
    for (int i = 0; i < width; i += 16)
        UNROLL for (int j = 0; j < VECTORS; j++) sum[j] = vadd(sum[j], vload(x + i + j * LANES));
    const vf mean = vset(sum16(sum) / (float)width);
    for (int i = 0; i < width; i += 16)
        UNROLL for (int j = 0; j < VECTORS; j++) {
            const vf v = vsub(vload(x + i + j * LANES), mean);
            squares[j] = vfma(v, v, squares[j]);
        }
    const vf scale = vset(1.0f / sqrtf(sum16(squares) / (float)width + 1e-5f));
    for (int i = 0; i < width; i += LANES) {
        const vf v = vmul(vsub(vload(x + i), mean), scale);
        vstore(to + i, vfma(v, vload(norm->weight + i), vload(norm->bias + i)));
    }
}
