/* What differs between operating systems: threads, sleeping, memory. */
#ifndef PLATFORM_H
#define PLATFORM_H
#include <stddef.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
typedef HANDLE os_thread;
typedef SRWLOCK os_mutex;
typedef CONDITION_VARIABLE os_condition;
#else
#include <pthread.h>
typedef pthread_t os_thread;
typedef pthread_mutex_t os_mutex;
typedef pthread_cond_t os_condition;
#endif

/* Return 0, or another number if there can be no thread. */
int os_thread_start(os_thread *thread, void (*run)(void *), void *argument);
void os_thread_join(os_thread thread);

void os_mutex_init(os_mutex *mutex);
void os_mutex_free(os_mutex *mutex);
void os_mutex_lock(os_mutex *mutex);
void os_mutex_unlock(os_mutex *mutex);
void os_condition_init(os_condition *condition);
void os_condition_free(os_condition *condition);
void os_condition_wait(os_condition *condition, os_mutex *mutex);
void os_condition_wake_all(os_condition *condition);

/* Let another thread have this processor, if one waits for it. */
void os_yield(void);

/* Seconds since some moment. */
double os_seconds(void);

/* Return zeroed memory, aligned to 64 bytes and committed as it is used, in large pages where there are some; or NULL. */
void *os_memory(size_t bytes);
void os_memory_free(void *memory, size_t bytes);

#endif
