/* See pool.h. */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define relax() _mm_pause()
#elif defined(__aarch64__)
#define relax() __asm__ volatile("yield")
#else
#define relax() ((void)0)
#endif

/* A phase takes from a few microseconds to some hundred; a pause is some 15 to 50 ns. */
#define SPINS 4000
/* Yielding costs about a microsecond if nobody else wants the processor. Between two steps, sampling takes less than a
 * millisecond: threads that are still awake then begin the next step at once. */
#define YIELDS 1000
/* Threads end a phase within some 50 us of each other; a thread that lost its processor gets it back after milliseconds. */
#define LATE_S 300e-6
#define MOST_ALONE 64 /* jobs */

/* `phases` counts by two; it is odd if all threads but the caller's leave at the end of this phase. */
static int next_phase(int phases, int leave) { return (int)(((unsigned)phases | 1) + 1) | leave; }

/* Sleep until `value` is no longer `seen`. */
static void await_asleep(mg_pool *pool, atomic_int *value, int seen) {
    os_mutex_lock(&pool->mutex);
    /* Sequentially consistent, as is `announce`: either this thread sees the change, or the other one the sleeper. */
    atomic_fetch_add(&pool->sleepers.value, 1);
    while (atomic_load(value) == seen) os_condition_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers.value, 1);
    os_mutex_unlock(&pool->mutex);
}

/* Wait until `value` is no longer `seen`. Returns whether that took longer than LATE_S. */
static int await_change(mg_pool *pool, atomic_int *value, int seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != seen) return 0;
        relax();
    }
    const double start = os_seconds();
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != seen) return os_seconds() - start > LATE_S;
        os_yield();
    }
    await_asleep(pool, value, seen);
    return 1;
}

/* Give a new value to something for which others wait. */
static void announce(mg_pool *pool, atomic_int *value, int new_value) {
    atomic_store(value, new_value);
    if (atomic_load(&pool->sleepers.value)) {
        os_mutex_lock(&pool->mutex);
        os_condition_wake_all(&pool->wake);
        os_mutex_unlock(&pool->mutex);
    }
}

void end_phase(team *team) {
    mg_pool *pool = team->pool;
    if (has_left(team)) return;
    /* Nobody takes tasks of the previous phase any more: its numbers become those of the next one. */
    atomic_store_explicit(&pool->claims[team->thread].next[(team->phase + 1) & 1].value, 0, memory_order_relaxed);
    team->phase++;
    if (team->threads == 1) return;
    const int seen = atomic_load_explicit(&pool->phases.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived.value, 1, memory_order_acq_rel) == team->threads - 1) {
        const int leave = !pool->patient && atomic_load_explicit(&pool->late.value, memory_order_relaxed);
        atomic_store_explicit(&pool->arrived.value, 0, memory_order_relaxed);
        announce(pool, &pool->phases.value, next_phase(seen, leave));
    } else if (await_change(pool, &pool->phases.value, seen))
        atomic_store_explicit(&pool->late.value, 1, memory_order_relaxed);
    /* This can't have changed again: the next phase that all threads end is one in which this thread takes part. */
    if (atomic_load_explicit(&pool->phases.value, memory_order_acquire) & 1) team->threads = 1;
}

typedef struct {
    mg_pool *pool;
    int thread;
} worker;

static void work(void *argument) {
    worker w = *(worker *)argument;
    free(argument);
    mg_pool *pool = w.pool;
    team team = {pool, w.thread, MAX_THREADS, 0}; /* pool->threads is still being counted */
    for (int seen = 0;; seen++) {
        /* One that has left sleeps at once: while it yields, its processor isn't idle, and so doesn't take over the
         * caller's thread from one that is busy. */
        if (has_left(&team))
            await_asleep(pool, &pool->job_number.value, seen);
        else
            await_change(pool, &pool->job_number.value, seen);
        if (atomic_load(&pool->ending)) return;
        team.threads = pool->threads;
        team.phase = 0;
        pool->run(pool->job, &team);
    }
}

/* Decide how many threads do the next job, given how the last one went. */
static int next_team_size(mg_pool *pool) {
    if (pool->patient) return pool->threads;
    if (pool->alone > 0) {
        pool->alone--;
        return 1;
    }
    if (atomic_exchange(&pool->late.value, 0)) {
        pool->pause = pool->pause ? 2 * pool->pause : 1;
        if (pool->pause > MOST_ALONE) pool->pause = MOST_ALONE;
        pool->alone = pool->pause - 1;
        return 1;
    }
    pool->pause /= 2;
    return pool->threads;
}

void pool_run(mg_pool *pool, job_fn run, void *job) {
    os_mutex_lock(&pool->caller);
    for (int t = 0; t < pool->threads; t++)
        for (int i = 0; i < 2; i++)
            atomic_store_explicit(&pool->claims[t].next[i].value, 0, memory_order_relaxed);
    team team = {pool, 0, next_team_size(pool), 0};
    if (team.threads > 1) {
        pool->run = run;
        pool->job = job;
        announce(pool, &pool->job_number.value, atomic_load(&pool->job_number.value) + 1);
    }
    run(job, &team);
    os_mutex_unlock(&pool->caller);
}

int mg_pool_new(int threads, int patient, mg_pool **result) {
    if (!result || threads < 1 || threads > MAX_THREADS) return MG_BAD_ARGUMENT;
    mg_pool *pool = os_memory(sizeof *pool);
    if (!pool) return MG_NO_MEMORY;
    os_mutex_init(&pool->caller);
    os_mutex_init(&pool->mutex);
    os_condition_init(&pool->wake);
    pool->patient = patient;
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        worker *w = malloc(sizeof *w);
        if (w) *w = (worker){pool, pool->threads};
        if (!w || os_thread_start(&pool->handles[pool->threads], work, w)) {
            free(w);
            mg_pool_free(pool);
            return MG_NO_MEMORY;
        }
    }
    *result = pool;
    return MG_OK;
}

void mg_pool_free(mg_pool *pool) {
    if (!pool) return;
    atomic_store(&pool->ending, 1);
    announce(pool, &pool->job_number.value, atomic_load(&pool->job_number.value) + 1);
    for (int t = 1; t < pool->threads; t++) os_thread_join(pool->handles[t]);
    os_mutex_free(&pool->caller);
    os_mutex_free(&pool->mutex);
    os_condition_free(&pool->wake);
    os_memory_free(pool, sizeof *pool);
}
