/* The logits: products in float32 with matrices in float16. */

enum { HEAD_ROWS = 4 };

/* Multiply rows by a panel: (rows, 16). Each result is one chain of sums, in the order of inputs. */
INLINE void head_panel(const int rows, int inputs, const uint16_t *w, const float *const *x, float *to) {
    vf c[HEAD_ROWS * VECTORS];
    UNROLL for (int i = 0; i < rows * VECTORS; i++) c[i] = vset(0.0f);
    for (int k = 0; k < inputs; k++, w += PANEL) {
        FETCH(w + 1024);
        UNROLL for (int j = 0; j < VECTORS; j++) {
            const vf part = vhalf(w + j * LANES);
            UNROLL for (int r = 0; r < rows; r++) c[r * VECTORS + j] = vfma(vset(x[r][k]), part, c[r * VECTORS + j]);
        }
    }
    UNROLL for (int i = 0; i < rows * VECTORS; i++) vstore(to + i * LANES, c[i]);
}

/* Logits of up to HEAD_ROWS rows and one panel. */
static void store_logits(const mg_decoder *d, int first, int rows, int p, const float *const *x) {
    const mg_sizes *s = &d->model->sizes;
    const int outputs = s->codebooks * s->vocab, left = outputs - p * PANEL, columns = left < PANEL ? left : PANEL;
    const uint16_t *w = d->model->heads + (size_t)p * PANEL * (size_t)s->width;
    float results[HEAD_ROWS * PANEL];
    if (rows == 1)
        head_panel(1, s->width, w, x, results);
    else if (rows == 2)
        head_panel(2, s->width, w, x, results);
    else
        head_panel(4, s->width, w, x, results);
    for (int r = 0; r < rows; r++) {
        float *to = results + r * PANEL;
        for (int j = 0; j < PANEL; j += LANES)
            vstore(to + j, vmul(vload(to + j), vload(d->model->head_scales + p * PANEL + j)));
        memcpy(d->logits + (size_t)(first + r) * (size_t)outputs + (size_t)p * PANEL, to, (size_t)columns * sizeof *to);
    }
}

static void compute_logits(mg_decoder *d, team *team) {
    const size_t width = (size_t)d->model->sizes.width;
    int victim = 0, i, end;
    while (take(team, d->wanted, 1, &victim, &i, &end))
        normalise(d->x + (size_t)(d->count - d->wanted + i) * width, &d->model->last_norm, (int)width,
                  d->h + (size_t)i * width);
    end_phase(team);
    if (has_left(team)) return;
    victim = 0;
    while (take(team, d->model->head_panels, 1, &victim, &i, &end))
        for (int first = 0, rows; first < d->wanted; first += rows) {
            const int left = d->wanted - first;
            const float *x[HEAD_ROWS];
            rows = left >= 4 ? 4 : left >= 2 ? 2 : 1;
            for (int r = 0; r < rows; r++) x[r] = d->h + (size_t)(first + r) * width;
            store_logits(d, first, rows, i, x);
        }
    end_phase(team);
}
