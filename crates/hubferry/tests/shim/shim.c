/* Preloaded into the program under test: a machine that behaves badly. What it does is chosen by environment variables.
   SHIM_LOCKS=none     locking a file always succeeds and locks nothing (as on Lustre without -o flock)
   SHIM_LOCKS=refused  locking a file fails with ENOLCK (as on NFS without a lock daemon)
   SHIM_CLOCK=SECONDS  the wall clock jumps by this much, SHIM_CLOCK_AFTER milliseconds after the first look at it
   SHIM_RECEIVE=BYTES  the system keeps about so many unread bytes of a connection, not megabytes */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Locks are answered by the kernel itself, because not every caller goes through the C library. */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define GIVE(answer) BPF_STMT(BPF_RET | BPF_K, answer)
/* When the loaded value is this, skip so many instructions. */
#define SKIP_IF(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, count, 0)

__attribute__((constructor)) static void break_locks(void) {
    const char *how = getenv("SHIM_LOCKS");
    if (!how) return;
    unsigned answer = SECCOMP_RET_ERRNO | (strcmp(how, "none") == 0 ? 0 : ENOLCK);
    struct sock_filter rules[] = {
        LOAD(nr),
        SKIP_IF(__NR_flock, 8),
        SKIP_IF(__NR_fcntl, 1),
        GIVE(SECCOMP_RET_ALLOW),
        LOAD(args[1]),
        SKIP_IF(F_SETLK, 4),
        SKIP_IF(F_SETLKW, 3),
        SKIP_IF(F_OFD_SETLK, 2),
        SKIP_IF(F_OFD_SETLKW, 1),
        GIVE(SECCOMP_RET_ALLOW),
        GIVE(answer),
    };
    struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) {
        perror("shim: seccomp");
        _Exit(97);
    }
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

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    const char *bytes = getenv("SHIM_RECEIVE");
    int size = bytes ? atoi(bytes) : 0;
    if (size > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return NEXT(connect)(fd, address, length);
}
