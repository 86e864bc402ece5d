/* The logits: products in float32 with matrices in float16. */

enum { HEAD_ROWS = 4 };

/* Multiply rows by a number of panels: (panels, rows, 16). Each result is one chain of sums, in the order of inputs. */
INLINE void head_panels(const int rows, const int panels, int inputs, const uint16_t *w, const float *const *x,
                        float *to) {
    const size_t size = (size_t)inputs * PANEL;
    vf c[16];
    UNROLL for (int i = 0; i < rows * panels * VECTORS; i++) c[i] = vset(0.0f);
    for (int k = 0; k < inputs; k++, w += PANEL) {
        UNROLL for (int p = 0; p < panels; p++) {
            FETCH(w + (size_t)p * size + 1024);
            UNROLL for (int j = 0; j < VECTORS; j++) {
                const vf part = vhalf(w + (size_t)p * size + j * LANES);
                UNROLL for (int r = 0; r < rows; r++) {
                    vf *sum = &c[(p * rows + r) * VECTORS + j];
                    *sum = vfma(vset(x[r][k]), part, *sum);
                }
            }
        }
    }
    UNROLL for (int i = 0; i < rows * panels * VECTORS; i++) vstore(to + i * LANES, c[i]);
}

#define DEFINE(rows, panels) \
    static __attribute__((noinline)) void heads_##rows##_##panels(int inputs, const uint16_t *w, \
                                                                  const float *const *x, float *to) { \
        head_panels(rows, panels, inputs, w, x, to); \
    }
#define DEFINE_HEADS(rows, panels) DEFINE(rows, panels)
DEFINE_HEADS(1, 1)
DEFINE_HEADS(2, 1)
DEFINE_HEADS(4, 1)
#undef DEFINE

/* Logits of up to HEAD_ROWS rows and one panel. */
static void store_logits(const mg_decoder *d, int first, int rows, int p, const float *const *x) {
    const mg_sizes *s = &d->model->sizes;
    const int outputs = s->codebooks * s->vocab, left = outputs - p * PANEL, columns = left < PANEL ? left : PANEL;
    const uint16_t *w = d->model->heads + (size_t)p * PANEL * (size_t)s->width;
    float results[HEAD_ROWS * PANEL];
    if (rows == 1)
        heads_1_1(s->width, w, x, results);
    else if (rows == 2)
        heads_2_1(s->width, w, x, results);
    else
        heads_4_1(s->width, w, x, results);
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
