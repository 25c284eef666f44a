/* Preloaded into the program under test: a machine that behaves badly. What it does is chosen by environment variables.
   SHIM_LOCKS=none     locking a file always succeeds and locks nothing (as on Lustre without -o flock)
   SHIM_LOCKS=refused  locking a file fails with ENOLCK (as on NFS without a lock daemon)
   SHIM_CLOCK=SECONDS  the wall clock jumps by this much, SHIM_CLOCK_AFTER milliseconds after the first look at it
   SHIM_DISK=BYTES     files below SHIM_DISK_BELOW take this many bytes in all, then the disk is full */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* 0: not ours; 1: pretend; -1: refuse. */
static int locks(void) {
    const char *how = getenv("SHIM_LOCKS");
    if (!how) return 0;
    return strcmp(how, "none") == 0 ? 1 : -1;
}

static int lock_answer(int how) {
    if (how > 0) return 0;
    errno = ENOLCK;
    return -1;
}

int flock(int fd, int operation) {
    int how = locks();
    return how ? lock_answer(how) : NEXT(flock)(fd, operation);
}

int lockf(int fd, int command, off_t length) {
    int how = locks();
    return how ? lock_answer(how) : NEXT(lockf)(fd, command, length);
}

static int is_lock(int command) {
    switch (command) {
    case F_SETLK: case F_SETLKW: case F_OFD_SETLK: case F_OFD_SETLKW: return 1;
    default: return 0;
    }
}

int fcntl(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int how = is_lock(command) ? locks() : 0;
    return how ? lock_answer(how) : NEXT(fcntl)(fd, command, argument);
}

int fcntl64(int fd, int command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int how = is_lock(command) ? locks() : 0;
    return how ? lock_answer(how) : NEXT(fcntl)(fd, command, argument);
}

static time_t jump(void) {
    static _Atomic long long first;
    const char *seconds = getenv("SHIM_CLOCK"), *after = getenv("SHIM_CLOCK_AFTER");
    if (!seconds) return 0;
    struct timespec now;
    NEXT(clock_gettime)(CLOCK_MONOTONIC, &now);
    long long millis = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
    long long expected = 0;
    atomic_compare_exchange_strong(&first, &expected, millis);
    return millis - first >= (after ? atoll(after) : 0) ? (time_t)atoll(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = NEXT(clock_gettime)(clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    int result = NEXT(gettimeofday)(at, zone);
    if (result == 0) at->tv_sec += jump();
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* Whether that many more bytes fit. */
static int full(int fd, size_t bytes) {
    static _Atomic long long written;
    const char *most = getenv("SHIM_DISK"), *below = getenv("SHIM_DISK_BELOW");
    if (!most || !below) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, below, strlen(below)) != 0) return 0;
    if (atomic_fetch_add(&written, (long long)bytes) + (long long)bytes <= atoll(most)) return 0;
    errno = ENOSPC;
    return 1;
}

static size_t sum(const struct iovec *pieces, int count) {
    size_t bytes = 0;
    for (int n = 0; n < count; n++) bytes += pieces[n].iov_len;
    return bytes;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    return full(fd, count) ? -1 : NEXT(write)(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    return full(fd, sum(pieces, count)) ? -1 : NEXT(writev)(fd, pieces, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return full(fd, count) ? -1 : NEXT(pwrite)(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return full(fd, count) ? -1 : NEXT(pwrite64)(fd, bytes, count, at);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    return full(fd, sum(pieces, count)) ? -1 : NEXT(pwritev)(fd, pieces, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t at) {
    return full(fd, sum(pieces, count)) ? -1 : NEXT(pwritev64)(fd, pieces, count, at);
}
