/*
 * Threads that compute one job after the other, and the way in which they share it.
 *
 * A job is a sequence of phases, each a number of tasks. Each thread has a contiguous range of a phase's tasks, which it
 * takes in small portions, so that it reads one stream of memory; a thread that is done takes portions of the others'
 * ranges, so that a thread whose processor is taken away delays the phase by one portion only.
 *
 * A thread that waits spins for as long as the others usually take, then yields its processor, then sleeps. If it waits
 * for much longer, other programs use the processors: then all but the caller's thread leave the job at the end of the
 * phase, and the caller does some further jobs alone, before it tries again with all threads. So a machine that is busy
 * costs a wait now and then, and not one in every phase.
 */
#ifndef POOL_H
#define POOL_H
#include <stdatomic.h>

#include "musicgen.h"
#include "platform.h"

#define MAX_THREADS 64
#define CACHE_LINE 128 /* of the largest processors; two neighbouring lines of 64 are often fetched together */

typedef struct {
    _Alignas(CACHE_LINE) atomic_int value;
} lonely_int; /* alone in its cache line */

typedef struct {
    lonely_int next[2]; /* how many tasks of this thread's range are taken, in phases of even and of odd numbers */
} claims;

/* What one thread knows of the job that it works on. */
typedef struct {
    mg_pool *pool;
    int thread, threads; /* a thread has left the job if its number is not below `threads` */
    int phase;
} team;

typedef void (*job_fn)(void *job, team *team);

struct mg_pool {
    lonely_int job_number; /* raised for each job that all threads are to do */
    lonely_int arrived;    /* at the end of the current phase */
    lonely_int phases;     /* that have ended */
    lonely_int sleepers;
    claims claims[MAX_THREADS];
    lonely_int late;       /* whether somebody waited long in this job */
    int alone, pause;      /* jobs that the caller still does alone, and how many it did the last time */
    int threads, patient;
    job_fn run;
    void *job;
    atomic_int ending;
    os_mutex caller; /* held during a job: callers come one after the other */
    os_mutex mutex;  /* of `wake` */
    os_condition wake;
    os_thread handles[MAX_THREADS];
};

/* Whether this thread has left the job, and must not read what the others go on to change. */
static inline int has_left(const team *team) { return team->thread >= team->threads; }

/* Have the threads do a job, and return when it is done. */
void pool_run(mg_pool *pool, job_fn run, void *job);

/*
 * End a phase: wait until all threads have ended it. What they wrote before is visible afterwards.
 *
 * Threads may leave here: see has_left.
 */
void end_phase(team *team);


/*
 * Take the next portion of a phase's tasks.
 *
 * victim: 0 before the first call of a thread in a phase; kept by this function.
 * Returns 0 if there are none left; else the portion is from *from up to *to.
 */
static inline int take(team *team, int tasks, int portion, int *victim, int *from, int *to) {
    if (has_left(team)) return 0;
    for (; *victim < team->threads; ++*victim) {
        const int owner = (team->thread + *victim) % team->threads;
        const int first = (int)((long long)tasks * owner / team->threads);
        const int size = (int)((long long)tasks * (owner + 1) / team->threads) - first;
        atomic_int *next = &team->pool->claims[owner].next[team->phase & 1].value;
        /* Look first: adding to another thread's number costs it its cache line. */
        if (atomic_load_explicit(next, memory_order_relaxed) >= size) continue;
        const int taken = atomic_fetch_add_explicit(next, portion, memory_order_relaxed);
        if (taken >= size) continue;
        *from = first + taken;
        *to = first + (taken + portion < size ? taken + portion : size);
        return 1;
    }
    return 0;
}

#endif
