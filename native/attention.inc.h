/*
 * Attention over keys and values in 8 bits.
 *
 * A channel of keys or values has one scale. So a query, multiplied by its keys' scales, and the numerators of the softmax
 * are rounded to 16 and 15 bits, and multiplied as two rows of bytes: exactly, like any other product.
 */

enum { QUERY_MOST = 32000, NUMERATOR_MOST = 32512, BLOCKS_AHEAD = 8, WIDEST_HEAD = 256 };
#define NEVER -3e38f /* the score of what isn't attended to */

/* One head of one row-position. */
typedef struct {
    uint8_t *tiles; /* of the first block: keys, then values */
    const float *query, *key, *value;
    const float *key_scales, *value_scales;
    int position;
} head;

static head head_of(const mg_decoder *d, int layer, int item, int number) {
    const size_t width = (size_t)d->model->sizes.width, first = (size_t)number * (size_t)d->model->head_width;
    const float *y = d->y + (size_t)item * 3 * width + first, *scales = d->scales + 2 * (size_t)layer * width + first;
    uint8_t *tiles = (uint8_t *)tiles_of(d, (int)d->at_rows[item], layer, number);
    return (head){tiles, y, y + width, y + 2 * width, scales, scales + width, (int)d->at_positions[item]};
}

static void fetch_tile(const uint8_t *tile, int bytes) {
    for (int i = 0; i < bytes; i += 64) FETCH(tile + i);
}

/* Fetch the lines to which the next key and value are written. */
static void fetch_last_block(const mg_decoder *d, const head *h) {
    const int bytes = (int)d->tile;
    uint8_t *block = h->tiles + (size_t)(h->position / TILE) * d->block_stride;
    for (int i = 0; i < bytes; i += 64) FETCH_TO_WRITE(block + i);
    for (int i = h->position % TILE / 4 * 64; i < bytes; i += 4 * 64) FETCH_TO_WRITE(block + bytes + i);
}

/* Write a key and a value to the cache. */
static void remember(const mg_decoder *d, const head *h) {
    const int width = d->model->head_width, position = h->position % TILE;
    uint8_t *keys = h->tiles + (size_t)(h->position / TILE) * d->block_stride, *values = keys + d->tile;
    uint8_t bytes[WIDEST_HEAD];
    for (int i = 0; i < width; i += LANES)
        store_bytes(vdiv(vload(h->key + i), vload(h->key_scales + i)), bytes + i);
    for (int i = 0; i < width; i += 4) memcpy(keys + (size_t)i * TILE + 4 * position, bytes + i, 4);
    for (int i = 0; i < width; i += LANES)
        store_bytes(vdiv(vload(h->value + i), vload(h->value_scales + i)), bytes + i);
    for (int i = 0; i < width; i++)
        values[(size_t)(i / PANEL) * 4 * 64 + (size_t)(position / 4) * 64 + (size_t)(i % PANEL) * 4 +
               (size_t)position % 4] = bytes[i];
}

/* Return the numbers' sum as two rows of codes. */
static void split(const float *numbers, int count, code *to, int32_t *high, int32_t *low) {
    vi high_sum = vzero(), low_sum = vzero();
    for (int i = 0; i < count; i += LANES) store_split(vload(numbers + i), to + 2 * i, &high_sum, &low_sum);
    *high = visum(high_sum);
    *low = visum(low_sum);
}

/* Fill in the scores of all positions up to this one; return the greatest. */
static float score(const mg_decoder *d, const head *h, float *scores) {
    const int width = d->model->head_width, last = h->position / TILE;
    float query[WIDEST_HEAD];
    vf most = vset(0.0f);
    for (int i = 0; i < width; i += LANES) {
        const vf q = vmul(vload(h->query + i), vload(h->key_scales + i));
        vstore(query + i, q);
        most = vmax(most, vabs(q));
    }
    const float reach = vgreatest(most), inverse = reach > 0 ? QUERY_MOST / reach : 0;
    for (int i = 0; i < width; i += LANES) vstore(query + i, vround(vmul(vload(query + i), vset(inverse))));
    code codes[2 * WIDEST_HEAD];
    int32_t high, low, sums[2 * TILE] __attribute__((aligned(64)));
    split(query, width, codes, &high, &low);

    const vf scale = vset(reach / QUERY_MOST / sqrtf((float)width));
    const uint8_t *values = h->tiles + d->tile;
    vf best = vset(NEVER);
    for (int b = 0; b <= last; b++) {
        const int ahead = b + BLOCKS_AHEAD;
        fetch_tile(ahead < last ? h->tiles + (size_t)ahead * d->block_stride
                                : values + (size_t)(ahead - last) * d->block_stride,
                   (int)d->tile);
        panel(2, 0, width / 4, h->tiles + (size_t)b * d->block_stride, codes, sums);
        for (int i = 0; i < TILE; i += LANES)
            vstore(scores + b * TILE + i, vmul(vpairs(sums + i, sums + TILE + i, OFFSET * (256 * high + low)), scale));
        if (b == last)
            for (int i = h->position + 1; i < (last + 1) * TILE; i++) scores[i] = NEVER;
        for (int i = 0; i < TILE; i += LANES) best = vmax(best, vload(scores + b * TILE + i));
    }
    return vgreatest(best);
}

/* Sums over all positions for `panels` panels of channels: (panels, 2, 16), high and low. */
INLINE void value_sums(const int panels, const mg_decoder *d, const uint8_t *values, int blocks, const code *a,
                       const uint8_t *then, int32_t *sums) {
    enum { PART_BYTES = 64 / PARTS, PART_OUTPUTS = PANEL / PARTS };
    vi c[4 * 2 * 4];
    UNROLL for (int i = 0; i < panels * PARTS * 2; i++) c[i] = vzero();
    for (int b = 0; b < blocks; b++, values += d->block_stride) {
        const int left = blocks - b;
        const uint8_t *ahead = BLOCKS_AHEAD < left ? values + BLOCKS_AHEAD * d->block_stride
                                                   : then + (size_t)(BLOCKS_AHEAD - left) * d->block_stride;
        UNROLL for (int k = 0; k < TILE / 4; k++, a += 8) {
            const vi high = load_codes(a), low = load_codes(a + 4);
            UNROLL for (int p = 0; p < panels; p++) {
                FETCH(ahead + (4 * p + k) * 64);
                UNROLL for (int s = 0; s < PARTS; s++) {
                    const vi part = load_part(values + (4 * p + k) * 64 + s * PART_BYTES);
                    vi *sum = &c[(p * PARTS + s) * 2];
                    sum[0] = dot(sum[0], part, high);
                    sum[1] = dot(sum[1], part, low);
                }
            }
        }
    }
    UNROLL for (int p = 0; p < panels; p++) UNROLL for (int s = 0; s < PARTS; s++) {
        store_sums(c[(p * PARTS + s) * 2], sums + 2 * p * PANEL + s * PART_OUTPUTS);
        store_sums(c[(p * PARTS + s) * 2 + 1], sums + (2 * p + 1) * PANEL + s * PART_OUTPUTS);
    }
}

static void attend(const mg_decoder *d, const head *h, const uint8_t *then, scratch *mine, float *to) {
    const int panels = d->model->head_width / PANEL, blocks = h->position / TILE + 1;
    float *numbers = mine->scores;
    code *codes = mine->split;
    const vf best = vset(score(d, h, numbers));
    for (int i = 0; i < blocks * TILE; i += LANES) {
        const vf numerator = vexp(vsub(vload(numbers + i), best));
        vstore(numbers + i, vround(vmul(numerator, vset(NUMERATOR_MOST))));
    }
    for (int i = h->position + 1; i < blocks * TILE; i++) numbers[i] = 0.0f;
    int32_t high, low, sums[VALUE_PANELS * 2 * PANEL] __attribute__((aligned(64)));
    split(numbers, blocks * TILE, codes, &high, &low);
    const vf share = vset(1.0f / (256.0f * (float)high + (float)low));
    for (int p = 0, n; p < panels; p += n) {
        const uint8_t *values = h->tiles + d->tile + (size_t)p * 4 * 64;
        n = panels - p >= VALUE_PANELS ? VALUE_PANELS : 1;
        if (n > 1)
            value_sums(VALUE_PANELS, d, values, blocks, codes, then + (size_t)p * 4 * 64, sums);
        else
            value_sums(1, d, values, blocks, codes, then + (size_t)p * 4 * 64, sums);
        for (int i = 0; i < n * PANEL; i += LANES) {
            const int32_t *of_panel = sums + i / PANEL * 2 * PANEL + i % PANEL;
            const vf v = vfma(vints(of_panel, OFFSET * high), vset(256.0f), vints(of_panel + PANEL, OFFSET * low));
            vstore(to + p * PANEL + i, vmul(vmul(v, share), vload(h->value_scales + p * PANEL + i)));
        }
    }
}

/* Attend with every head of every row-position, and end the phase. A task is one head of the positions of one row: they
 * come one after the other, and read what the task has written. */
static void self_attention(mg_decoder *d, team *team, int layer) {
    if (has_left(team)) return;
    const int heads = d->model->sizes.heads, width = d->model->sizes.width, tasks = d->groups * heads;
    int victim = 0, task, end;
    while (take(team, tasks, 1, &victim, &task, &end)) {
        const group *g = &d->group[task / heads];
        for (int i = g->first; i < g->first + g->count; i++) {
            const head h = head_of(d, layer, i, task % heads);
            remember(d, &h);
        }
        const int next = task + 1 < tasks ? task + 1 : task;
        const head then = head_of(d, layer, d->group[next / heads].first, next % heads);
        fetch_last_block(d, &then);
        for (int i = g->first; i < g->first + g->count; i++) {
            const head h = head_of(d, layer, i, task % heads);
            float *to = d->h + (size_t)i * (size_t)width + (size_t)(task % heads) * (size_t)d->model->head_width;
            attend(d, &h, then.tiles, &d->scratch[team->thread], to);
        }
    }
    end_phase(team);
}

/* The same over a text, in float32: query is (head width), keys (head width, length), values (length, head width). */
static void attend_text(const text *t, const float *query, size_t keys_at, int width, float *scores, float *to) {
    const float *keys = t->keys + keys_at, *values = t->values + keys_at, scale = 1.0f / sqrtf((float)width);
    vf best = vset(NEVER);
    for (int i = 0; i < t->length; i += LANES) {
        vf s = vset(0.0f);
        for (int c = 0; c < width; c++)
            s = vfma(vset(query[c] * scale), vload(keys + (size_t)c * (size_t)t->length + i), s);
        vstore(scores + i, s);
    }
    for (int i = t->used; i < t->length; i++) scores[i] = NEVER;
    for (int i = 0; i < t->length; i += LANES) best = vmax(best, vload(scores + i));
    best = vset(vgreatest(best));
    for (int i = 0; i < t->length; i += LANES) vstore(scores + i, vexp(vsub(vload(scores + i), best)));
    for (int i = t->used; i < t->length; i++) scores[i] = 0.0f;
    vf sum[VECTORS];
    for (int j = 0; j < VECTORS; j++) sum[j] = vset(0.0f);
    for (int i = 0; i < t->length; i += PANEL)
        for (int j = 0; j < VECTORS; j++) sum[j] = vadd(sum[j], vload(scores + i + j * LANES));
    const vf share = vset(1.0f / sum16(sum));
    for (int c = 0; c < width; c += PANEL) {
        vf v[VECTORS];
        for (int j = 0; j < VECTORS; j++) v[j] = vset(0.0f);
        for (int i = 0; i < t->used; i++)
            for (int j = 0; j < VECTORS; j++)
                v[j] = vfma(vset(scores[i]), vload(values + (size_t)i * (size_t)width + c + j * LANES), v[j]);
        for (int j = 0; j < VECTORS; j++) vstore(to + c + j * LANES, vmul(v[j], share));
    }
}

static void cross_attention(mg_decoder *d, team *team, int layer) {
    if (has_left(team)) return;
    const mg_sizes *s = &d->model->sizes;
    const int width = d->model->head_width;
    int victim = 0, task, end;
    while (take(team, d->texted * s->heads, 1, &victim, &task, &end)) {
        const int item = task / s->heads, number = task % s->heads;
        const text *t = &d->texts[d->at_rows[d->text_rows[item]]];
        const size_t at = (size_t)item * (size_t)s->width + (size_t)number * (size_t)width;
        const size_t keys_at = ((size_t)layer * (size_t)s->heads + (size_t)number) * (size_t)width * (size_t)t->length;
        attend_text(t, d->y + at, keys_at, width, d->scratch[team->thread].scores, d->h + at);
    }
    end_phase(team);
}
