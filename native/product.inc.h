/*
 * Products of rows by a matrix.
 *
 * The rows are rounded to codes: x = code * step, or floored x = least + (code + 128) * step, where no value is below
 * `least`, as behind an activation. Each BLOCK of a row's inputs has its own step, so that its largest value doesn't
 * cost the others their precision. Products of a block are summed exactly, as whole numbers, and scaled once; then the
 * blocks are added up in their order.
 *
 * Codes have 8 bits, fine ones 15. Where the dot product takes bytes, a row of fine codes is multiplied as two rows,
 * 256 * high + low. Sums wrap around 32 bits on the way, and end within them.
 *
 * Rows are divided into chunks, of as many as registers can sum at once. The codes of a chunk are (inputs / 4, rows, 4),
 * so that a product reads them one after the other; its kernel may have rows to spare, which cost time alone.
 */

enum { FINE_MOST = 16383 }; /* of a code: a block's products with bytes add up to less than 2^31 */

/* The rows that are multiplied: those of x that `index` names, or all; normalised first if there is a norm. */
typedef struct {
    const float *x;
    size_t stride;
    const int *index;
    int rows;
    const norm *norm;
    enum { PLAIN, FLOORED, FINE } codes;
} input;

/* Where the product goes: to the rows of y that `index` names, or to all. */
typedef struct {
    float *y;
    size_t stride;
    const int *index;
    enum { STORE, ADD, ACTIVATE } how;
} output;

/* The same rows as codes; of each row and block what one code means, and the codes' sum: (rows, blocks) */
typedef struct {
    const code *codes;
    const float *steps;
    const int32_t *sums;
} rounded;

INLINE int block_inputs(int inputs, int block) {
    const int left = inputs - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

/* For how many rows there are kernels. */
#if MOST_ROWS == 16
#define KERNELS(with) with(1) with(2) with(3) with(4) with(6) with(8) with(12) with(16)
#elif MOST_ROWS == 6
#define KERNELS(with) with(1) with(2) with(3) with(4) with(6)
#else
#define KERNELS(with) with(1) with(2) with(3) with(4)
#endif

/* Return the rows of the kernel that multiplies this many. */
static int kernel_rows(int rows) {
#define ENOUGH(n) \
    if (n >= rows) return n;
    KERNELS(ENOUGH)
#undef ENOUGH
    return MOST_ROWS;
}

/* Return how many rows a kernel sees of each row. */
INLINE int parts_of(const input *in) { return SPLIT_FINE && in->codes == FINE ? 2 : 1; }

/* Return the number of chunks, and where one begins. MOST_ROWS is even, so the parts of a row stay together. */
static int chunks_of(const input *in) { return (in->rows * parts_of(in) + MOST_ROWS - 1) / MOST_ROWS; }
static int chunk_start(const input *in, int chunk) { return in->rows * chunk / chunks_of(in); }

/* Sums of one panel: (rows, 16). A and `fetch` are constants where this is inlined. */
INLINE void panel(const int rows, const int fetch, int quads, const uint8_t *w, const code *a, int32_t *restrict sums) {
    enum { PART_BYTES = 64 / PARTS, PART_OUTPUTS = PANEL / PARTS };
    const int width = PARTS_AT_ONCE(rows), chains = CHAINS(rows);
    const int per_input = 4 * rows;
    for (int p = 0; p < PARTS; p += width) {
        vi c[16 * 4];
        UNROLL for (int i = 0; i < rows * width * chains; i++) c[i] = vzero();
        for (int k = 0; k < quads; k += chains) {
            UNROLL for (int u = 0; u < chains; u++) {
                const uint8_t *at = w + (size_t)(k + u) * 64;
                vi parts[4];
                UNROLL for (int s = 0; s < width; s++) parts[s] = load_part(at + (p + s) * PART_BYTES);
                if (fetch && p == 0) FETCH(at + fetch);
                UNROLL for (int r = 0; r < rows; r++) {
                    const vi four = load_codes(a + (size_t)(k + u) * per_input + 4 * r);
                    UNROLL for (int s = 0; s < width; s++) {
                        vi *sum = &c[(r * width + s) * chains + u];
                        *sum = dot(*sum, parts[s], four);
                    }
                }
            }
        }
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < width; s++) {
            const vi *sum = &c[(r * width + s) * chains];
            vi total = sum[0];
            UNROLL for (int u = 1; u < chains; u++) total = viadd(total, sum[u]);
            store_sums(total, sums + r * PANEL + (p + s) * PART_OUTPUTS);
        }
    }
}

/* A thread reads one panel after the other: what is fetched beyond a panel's end is the beginning of the next one. */
#define AHEAD 8192
#define DEFINE(n) \
    static __attribute__((noinline)) void panel_##n(int quads, const uint8_t *w, const code *a, int32_t *sums) { \
        panel(n, AHEAD, quads, w, a, sums); \
    }
KERNELS(DEFINE)
#undef DEFINE

static void panel_sums(int rows, int quads, const uint8_t *w, const code *a, int32_t *sums) {
    switch (rows) {
#define CASE(n) \
    case n: panel_##n(quads, w, a, sums); break;
        KERNELS(CASE)
#undef CASE
    }
}

/* Return how far the values of a block reach. */
static float reach(const float *x, int size, int floored, float least) {
    vf most = vset(0.0f);
    if (floored)
        for (int i = 0; i < size; i += LANES) most = vmax(most, vsub(vload(x + i), vset(least)));
    else
        for (int i = 0; i < size; i += LANES) most = vmax(most, vabs(vload(x + i)));
    return vgreatest(most);
}
INLINE float inverse_of(float step) { return step > 0 ? 1 / step : 0; }

/* Least result of an activation, which becomes code -128: ACTIVATION_MINIMUM of engine/quantization/codes.py. */
INLINE float least_of(const mg_decoder *d) { return d->model->sizes.activation == RELU ? 0.0f : -0.1701f; }

/* Return what one code of a block means; codes go up to 127, floored from -128 to 127. */
static float step_of(const mg_decoder *d, const input *in, const float *x, int size) {
    if (in->codes == FLOORED) return reach(x, size, 1, least_of(d)) * (1 / 255.0f);
    return reach(x, size, 0, 0.0f) * (in->codes == PLAIN ? 1 / 127.0f : 1 / (float)FINE_MOST);
}

/* Round some inputs of one row of a chunk, whose kernel has `rows` rows; return the sum of the codes. */
static int32_t round_row(const mg_decoder *d, const input *in, const float *x, int size, float inverse, code *to,
                         int rows) {
    vi sum = vzero(), high_sum = vzero();
    const vf by = vset(inverse);
    const size_t stride = 4 * (size_t)rows, all = (size_t)LANES * (size_t)rows;
    if (in->codes == FLOORED)
        for (int i = 0; i < size; i += LANES, to += all) {
            const vf v = vround(vmul(vsub(vload(x + i), vset(least_of(d))), by));
            sum = store_codes(vsub(v, vset(128.0f)), to, stride, sum);
        }
    else if (parts_of(in) == 1)
        for (int i = 0; i < size; i += LANES, to += all) sum = store_codes(vmul(vload(x + i), by), to, stride, sum);
    else
        for (int i = 0; i < size; i += LANES, to += all) {
            /* A little more than the quotient, so that 128 rounds up: low parts go from -128 to 127. */
            const vf v = vround(vmul(vload(x + i), by)), high = vround(vfma(v, vset(1 / 256.0f), vset(1 / 1024.0f)));
            high_sum = store_codes(high, to, stride, high_sum);
            sum = store_codes(vfma(high, vset(-256.0f), v), to + 4, stride, sum);
        }
    return 256 * visum(high_sum) + visum(sum);
}

INLINE const float *row_of(const input *in, int r) {
    return in->x + (size_t)(in->index ? in->index[r] : r) * in->stride;
}

/* Each thread rounds all rows for itself. */
static rounded round_few(mg_decoder *d, team *team, const input *in, int size) {
    scratch *mine = &d->scratch[team->thread];
    code *codes = mine->codes;
    const int parts = parts_of(in), rows = kernel_rows(in->rows * parts), blocks = blocks_of(size);
    for (int r = 0; r < in->rows; r++) {
        const float *x = row_of(in, r);
        if (in->norm) {
            normalise(x, in->norm, size, mine->normed);
            x = mine->normed;
        }
        for (int b = 0; b < blocks; b++) {
            const int length = block_inputs(size, b);
            const float step = step_of(d, in, x + b * BLOCK, length);
            code *to = codes + (size_t)b * BLOCK * (size_t)rows + 4 * parts * r;
            mine->steps[r * blocks + b] = step;
            mine->sums[r * blocks + b] = round_row(d, in, x + b * BLOCK, length, inverse_of(step), to, rows);
        }
    }
    return (rounded){codes, mine->steps, mine->sums};
}

/* Normalise and measure a share of the rows. */
static void measure_rows(mg_decoder *d, team *team, const input *in, int size) {
    const int blocks = blocks_of(size);
    int victim = 0, from, to;
    while (take(team, in->rows, 1, &victim, &from, &to)) {
        const float *x = row_of(in, from);
        if (in->norm) {
            float *normed = d->h + (size_t)from * (size_t)size;
            normalise(x, in->norm, size, normed);
            x = normed;
        }
        for (int b = 0; b < blocks; b++)
            d->steps[from * blocks + b] = step_of(d, in, x + b * BLOCK, block_inputs(size, b));
    }
}

/* The threads share the rounding, by inputs: sharing it by rows, they would write to the same cache lines. */
static rounded round_many(mg_decoder *d, team *team, const input *in, int size) {
    enum { SHARE = 64 }; /* which divides BLOCK */
    scratch *mine = &d->scratch[team->thread];
    const int blocks = blocks_of(size);
    memset(mine->partial_sums, 0, (size_t)in->rows * (size_t)blocks * sizeof(int32_t));
    measure_rows(d, team, in, size);
    end_phase(team);
    const int parts = parts_of(in), threads = team->threads; /* that make codes; fewer may be left after that */
    int victim = 0, share, end;
    while (take(team, (size + SHARE - 1) / SHARE, 1, &victim, &share, &end)) {
        const int first = share * SHARE, length = size - first < SHARE ? size - first : SHARE;
        for (int r = 0, chunk = 0; chunk < chunks_of(in); chunk++) {
            const int start = chunk_start(in, chunk), stop = chunk_start(in, chunk + 1);
            const int rows = kernel_rows((stop - start) * parts);
            code *codes = (code *)d->codes + (size_t)chunk * MOST_ROWS * (size_t)size + (size_t)first * (size_t)rows;
            for (; r < stop; r++) {
                const float *x = in->norm ? d->h + (size_t)r * (size_t)size : row_of(in, r);
                const int at = r * blocks + first / BLOCK;
                mine->partial_sums[at] += round_row(d, in, x + first, length, inverse_of(d->steps[at]),
                                                    codes + 4 * parts * (r - start), rows);
            }
        }
    }
    end_phase(team);
    if (has_left(team)) return (rounded){NULL, NULL, NULL};
    for (int i = 0; i < in->rows * blocks; i++) {
        mine->sums[i] = 0;
        for (int t = 0; t < threads; t++) mine->sums[i] += d->scratch[t].partial_sums[i];
    }
    return (rounded){d->codes, d->steps, mine->sums};
}

/* Add the sums of a block and one row of a panel to its totals; `columns`, its columns' sums, is given for floored codes. */
INLINE void add_block(const int32_t *sums, int parts, float step, int32_t code_sum, const int32_t *columns, float least,
                      float *totals) {
    const int32_t less = OFFSET * code_sum;
    for (int j = 0; j < PANEL; j += LANES) {
        vf total = vload(totals + j);
        if (columns) {
            total = vfma(vints_sums(sums + j, less, columns + j), vset(step), total);
            total = vfma(vints(columns + j, 0), vset(least), total);
        } else {
            const vf v = parts == 1 ? vints(sums + j, less) : vpairs(sums + j, sums + PANEL + j, less);
            total = vfma(v, vset(step), total);
        }
        vstore(totals + j, total);
    }
}

/* Scale the totals of one row of a panel, and store or add them. */
INLINE void finish(const float *totals, const float *scales, int how, int activation, float *to) {
    for (int j = 0; j < PANEL; j += LANES) {
        vf v = vmul(vload(totals + j), vload(scales + j));
        if (how == ADD) v = vadd(v, vload(to + j));
        if (how == ACTIVATE) v = activate(activation, v);
        vstore(to + j, v);
    }
}

/* Multiply one panel by the rows of a chunk. */
static void multiply_panel(const mg_decoder *d, const matrix *m, const input *in, const output *out,
                           const int32_t *columns, const rounded *a, int p, int chunk) {
    const int parts = parts_of(in), blocks = blocks_of(m->inputs), activation = d->model->sizes.activation;
    const int start = chunk_start(in, chunk), count = chunk_start(in, chunk + 1) - start;
    const int rows = kernel_rows(count * parts);
    const uint8_t *w = m->codes + (size_t)p * PANEL * (size_t)m->inputs;
    const code *codes = a->codes + (size_t)chunk * MOST_ROWS * (size_t)m->inputs;
    int32_t sums[16 * PANEL] __attribute__((aligned(64)));
    float totals[16 * PANEL] __attribute__((aligned(64)));
    memset(totals, 0, (size_t)count * PANEL * sizeof *totals);
    for (int b = 0; b < blocks; b++, w += BLOCK * PANEL, codes += BLOCK * rows) {
        const int32_t *of_block = columns ? columns + b * m->outputs + p * PANEL : NULL;
        panel_sums(rows, block_inputs(m->inputs, b) / 4, w, codes, sums);
        for (int r = 0; r < count; r++) {
            const int at = (start + r) * blocks + b;
            add_block(sums + r * parts * PANEL, parts, a->steps[at], a->sums[at], of_block, least_of(d),
                      totals + r * PANEL);
        }
    }
    for (int r = 0; r < count; r++) {
        const int row = out->index ? out->index[start + r] : start + r;
        float *to = out->y + (size_t)row * out->stride + p * PANEL;
        finish(totals + r * PANEL, m->scales + p * PANEL, (int)out->how, activation, to);
    }
}

/* Multiply, and end the phase; `columns` is given for floored codes: the sums of each block of each column. */
static void multiply(mg_decoder *d, team *team, const matrix *m, const input *in, const output *out,
                     const int32_t *columns) {
    if (has_left(team)) return;
    const int chunks = chunks_of(in), few = in->rows * parts_of(in) <= FEW;
    const rounded a = few ? round_few(d, team, in, m->inputs) : round_many(d, team, in, m->inputs);
    if (has_left(team)) return;
    int victim = 0, p, end;
    while (take(team, m->outputs / PANEL, 1, &victim, &p, &end))
        for (int chunk = 0; chunk < chunks; chunk++) multiply_panel(d, m, in, out, columns, &a, p, chunk);
    end_phase(team);
}
