/* See platform.h. */
#define _GNU_SOURCE
#include "platform.h"

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    void (*run)(void *);
    void *argument;
} start;

#ifdef _WIN32

static DWORD WINAPI begin(void *memory) {
    start s = *(start *)memory;
    free(memory);
    s.run(s.argument);
    return 0;
}

int os_thread_start(os_thread *thread, void (*run)(void *), void *argument) {
    start *s = malloc(sizeof *s);
    if (!s) return 1;
    *s = (start){run, argument};
    *thread = CreateThread(NULL, 0, begin, s, 0, NULL);
    if (!*thread) free(s);
    return !*thread;
}

void os_thread_join(os_thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}

void os_mutex_init(os_mutex *mutex) { InitializeSRWLock(mutex); }
void os_mutex_free(os_mutex *mutex) { (void)mutex; }
void os_mutex_lock(os_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
void os_mutex_unlock(os_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
void os_condition_init(os_condition *condition) { InitializeConditionVariable(condition); }
void os_condition_free(os_condition *condition) { (void)condition; }
void os_condition_wait(os_condition *condition, os_mutex *mutex) {
    SleepConditionVariableSRW(condition, mutex, INFINITE, 0);
}
void os_condition_wake_all(os_condition *condition) { WakeAllConditionVariable(condition); }
void os_yield(void) { SwitchToThread(); }

double os_seconds(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    return (double)count.QuadPart / (double)frequency.QuadPart;
}

/* Windows commits all of it against the page file at once, but takes physical memory as it is used. */
void *os_memory(size_t bytes) { return VirtualAlloc(NULL, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE); }

void os_memory_free(void *memory, size_t bytes) {
    (void)bytes;
    if (memory) VirtualFree(memory, 0, MEM_RELEASE);
}

#else

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

static void *begin(void *memory) {
    start s = *(start *)memory;
    free(memory);
    s.run(s.argument);
    return NULL;
}

int os_thread_start(os_thread *thread, void (*run)(void *), void *argument) {
    start *s = malloc(sizeof *s);
    if (!s) return 1;
    *s = (start){run, argument};
    /* Signals are for Python's main thread; a thread inherits the mask of the one that starts it. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, begin, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) free(s);
    return failed;
}

void os_thread_join(os_thread thread) { pthread_join(thread, NULL); }
void os_mutex_init(os_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
void os_mutex_free(os_mutex *mutex) { pthread_mutex_destroy(mutex); }
void os_mutex_lock(os_mutex *mutex) { pthread_mutex_lock(mutex); }
void os_mutex_unlock(os_mutex *mutex) { pthread_mutex_unlock(mutex); }
void os_condition_init(os_condition *condition) { pthread_cond_init(condition, NULL); }
void os_condition_free(os_condition *condition) { pthread_cond_destroy(condition); }
void os_condition_wait(os_condition *condition, os_mutex *mutex) { pthread_cond_wait(condition, mutex); }
void os_condition_wake_all(os_condition *condition) { pthread_cond_broadcast(condition); }
void os_yield(void) { sched_yield(); }

double os_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

#define LARGE_PAGE ((size_t)2 << 20)

/* Small blocks don't fill a large page; larger ones are whole large pages. */
static size_t rounded(size_t bytes) {
    return bytes < LARGE_PAGE ? bytes : (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
}

static void *map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *os_memory(size_t bytes) {
    if (!bytes || bytes > SIZE_MAX / 2) return NULL;
    const size_t size = rounded(bytes);
    if (size < LARGE_PAGE) return map(size);
    /* Map one large page more than needed, and give back what lies before and after an aligned block. */
    uint8_t *mapped = map(size + LARGE_PAGE);
    if (!mapped) return NULL;
    const size_t before = (LARGE_PAGE - (uintptr_t)mapped % LARGE_PAGE) % LARGE_PAGE;
    uint8_t *memory = mapped + before;
    if (before) munmap(mapped, before);
    munmap(memory + size, LARGE_PAGE - before);
#ifdef MADV_HUGEPAGE
    madvise(memory, size, MADV_HUGEPAGE);
#endif
    return memory;
}

void os_memory_free(void *memory, size_t bytes) {
    if (memory) munmap(memory, rounded(bytes));
}

#endif
