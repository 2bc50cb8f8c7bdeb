/* Counts the calls that change a disk and lets the k-th fail, tear or kill. Loaded with LD_PRELOAD; armed through ctypes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, COUNT, FAIL, TEAR, KILL };
enum { WRITE = 1, SYNC = 2, RENAME = 4, OTHER = 8 };
static int mode, error, once, quiet = -1, only;
static long left, seen;

void fault_arm(int mode_, long k, int error_, int once_, int quiet_) {
    mode = mode_, left = k, error = error_, once = once_, quiet = quiet_, seen = 0, only = 0;
}
/* After fault_arm: count calls of these kinds only (a sum of the above; 0: all). */
void fault_only(int kinds) { only = kinds; }
long fault_seen(void) { return seen; }

/* 1: this call must fail; 2: half of it must happen, then death; 0: let it through. */
static int meet(int fd, int kind) {
    if (mode == OFF || (fd >= 0 && fd == quiet) || (only && !(only & kind))) return 0;
    seen++;
    if (mode == COUNT) return 0;
    if (seen < left || (once && seen > left)) return 0;
    if (mode == KILL) kill(getpid(), SIGKILL);
    if (mode == TEAR) return 2;
    errno = error;
    return 1;
}

static int whole(int fd, int kind) {
    int met = meet(fd, kind);
    if (met == 2) kill(getpid(), SIGKILL); /* only writes can tear */
    return met;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n) {
    int met = meet(fd, WRITE);
    if (met == 1) return -1;
    if (met == 2) { REAL(write)(fd, data, n > 512 ? n / 1024 * 512 : n / 2); kill(getpid(), SIGKILL); }
    return REAL(write)(fd, data, n);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    int met = meet(fd, WRITE);
    if (met == 1) return -1;
    if (met == 2) { REAL(pwrite64)(fd, data, n > 512 ? n / 1024 * 512 : n / 2, at); kill(getpid(), SIGKILL); }
    return REAL(pwrite64)(fd, data, n, at);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) { return pwrite64(fd, data, n, at); }
int fsync(int fd) { return whole(fd, SYNC) == 0 ? REAL(fsync)(fd) : -1; }
int fdatasync(int fd) { return whole(fd, SYNC) == 0 ? REAL(fdatasync)(fd) : -1; }
int rename(const char *a, const char *b) { return whole(-1, RENAME) == 0 ? REAL(rename)(a, b) : -1; }
int unlink(const char *a) { return whole(-1, OTHER) == 0 ? REAL(unlink)(a) : -1; }
int mkdir(const char *a, mode_t m) { return whole(-1, OTHER) == 0 ? REAL(mkdir)(a, m) : -1; }
int ftruncate64(int fd, off64_t n) { return whole(fd, OTHER) == 0 ? REAL(ftruncate64)(fd, n) : -1; }
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags);
    mode_t m = va_arg(rest, mode_t);
    va_end(rest);
    if ((flags & O_CREAT) && whole(-1, OTHER)) return -1;
    return REAL(open64)(path, flags, m);
}
