/* Between a process and its disk: loaded before libc (LD_PRELOAD), it notes every call that changes a file below
 * DISK_ROOT in DISK_LOG, in the order in which they took effect, and can have any of them fail, or kill the process
 * there. What to do stands in DISK_CONTROL, shared memory that whoever drives the test may change at any time.
 *
 * Not here: what the calls mean (disk.py). Not seen: what is written through a memory map; SQLite does that to its -shm
 * alone, which holds nothing durable and is left out, and what reads.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, TRUNCATE = 4, SYNC = 8, UNLINK = 16, RENAME = 32, MKDIR = 64, JOURNAL = 256, DATABASE = 512 };
enum { NOTHING, FAIL, SHORT, KILL_BEFORE, KILL_AFTER, KILL_MID };

struct control {
    volatile int32_t count;  /* calls of the kinds in `mask` so far */
    volatile int32_t from, to; /* the calls that `action` strikes, counted from 1; from = 0: none */
    volatile int32_t action, error, mask;
    volatile int32_t struck; /* how many it struck */
    volatile int32_t no_sync;  /* skip the true flush: nobody pulls the plug of the machine that runs the tests */
    volatile int32_t struck_kind;
    char struck_path[128]; /* its end, of the last that was struck */
};

struct record {
    uint32_t kind, ok, path_len, data_len;
    int32_t pid, fd;
    uint64_t offset;
};

#define MAX_FDS 4096
static char *paths[MAX_FDS];
static struct control *control;
static int log_fd = -1;
static const char *root;
static size_t root_len;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void start(void) {
    const char *log = getenv("DISK_LOG"), *shared = getenv("DISK_CONTROL");
    root = getenv("DISK_ROOT");
    if (!root || !shared) return;
    root_len = strlen(root);
    int fd = syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC, 0);
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) abort();
    syscall(SYS_close, fd);
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static int ends(const char *path, const char *with) {
    size_t a = strlen(path), b = strlen(with);
    return a >= b && !strcmp(path + a - b, with);
}

static const char *ours(const char *path) {
    if (!control || !path || strncmp(path, root, root_len) || ends(path, "-shm")) return NULL;
    return path[root_len] == '/' || !path[root_len] ? path : NULL;
}

static const char *of(int fd) { return fd >= 0 && fd < MAX_FDS ? paths[fd] : NULL; }

static void now_at(int fd, const char *path) {
    if (fd < 0 || fd >= MAX_FDS) return;
    free(paths[fd]);
    paths[fd] = path ? strdup(path) : NULL;
}

static void note(int kind, int ok, const char *path, size_t path_len, int fd, uint64_t offset, const void *data, size_t len) {
    if (log_fd < 0) return;
    struct record head = {kind, ok, path_len, len, getpid(), fd, offset};
    char *all = malloc(sizeof head + path_len + len);
    memcpy(all, &head, sizeof head);
    memcpy(all + sizeof head, path, path_len);
    if (len) memcpy(all + sizeof head + path_len, data, len);
    if (syscall(SYS_write, log_fd, all, sizeof head + path_len + len) < 0) abort();
    free(all);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* What is to happen to this call. Held under the lock. */
static int fate(int kind, const char *path) {
    int where = strstr(path, "/journal/") ? JOURNAL : DATABASE;
    if (ends(path, "/said") || !(control->mask & kind) || !(control->mask & where)) return NOTHING;
    int number = ++control->count;
    if (!control->from || number < control->from || number > control->to) return NOTHING;
    size_t skip = strlen(path) > 127 ? strlen(path) - 127 : 0;
    strcpy(control->struck_path, path + skip);
    control->struck_kind = kind;
    control->struck++;
    if (control->action == KILL_BEFORE) die();
    return control->action;
}

/* Run `call`, noted as `kind`; the value of the whole is what the caller gets. */
#define THROUGH(kind, path, path_len, fd, offset, call)                                   \
    ({                                                                                    \
        pthread_mutex_lock(&lock);                                                        \
        int did_ = fate(kind, path), saved_;                                              \
        long got_;                                                                        \
        if (did_ == FAIL || did_ == SHORT) {                                              \
            got_ = -1, errno = control->error;                                            \
        } else {                                                                          \
            got_ = (call);                                                                \
        }                                                                                 \
        saved_ = errno;                                                                   \
        if (got_ >= 0 || kind == SYNC) note(kind, got_ >= 0, path, path_len, fd, offset, NULL, 0); \
        if (did_ == KILL_AFTER || did_ == KILL_MID) die();                                \
        pthread_mutex_unlock(&lock);                                                      \
        errno = saved_;                                                                   \
        got_;                                                                             \
    })

static int opened(const char *path, int flags, int fd, int existed) {
    pthread_mutex_lock(&lock);
    now_at(fd, path);
    if (fd >= 0 && path) note(OPEN, existed, path, strlen(path), fd, (flags & O_TRUNC) != 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

static int open_it(int at, const char *path, int flags, mode_t mode) {
    const char *mine = ours(path);
    if (!mine) return opened(NULL, flags, syscall(SYS_openat, at, path, flags, mode), 1);
    struct stat found;
    int existed = stat(path, &found) == 0;
    if ((flags & O_ACCMODE) != O_RDONLY) {
        pthread_mutex_lock(&lock);
        int did = fate(OPEN, path), error = control->error;
        pthread_mutex_unlock(&lock);
        if (did == FAIL || did == SHORT) return errno = error, -1;
        int fd = opened(mine, flags, syscall(SYS_openat, at, path, flags, mode), existed);
        if (did == KILL_AFTER || did == KILL_MID) die();
        return fd;
    }
    return opened(mine, flags, syscall(SYS_openat, at, path, flags, mode), existed);
}

#define WITH_MODE(last) \
    mode_t mode = 0;    \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, last); mode = va_arg(more, int); va_end(more); }

int open(const char *path, int flags, ...) { WITH_MODE(flags) return open_it(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { WITH_MODE(flags) return open_it(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { WITH_MODE(flags) return open_it(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { WITH_MODE(flags) return open_it(at, path, flags, mode); }

int close(int fd) {
    if (of(fd)) {
        pthread_mutex_lock(&lock);
        now_at(fd, NULL);
        pthread_mutex_unlock(&lock);
    }
    return syscall(SYS_close, fd);
}

static ssize_t write_it(int fd, const void *data, size_t len, int64_t offset) {
    pthread_mutex_lock(&lock);
    const char *path = of(fd);
    int did = fate(WRITE, path), saved;
    size_t most = did == SHORT || did == KILL_MID ? len / 2 : len;
    int64_t at = offset;
    ssize_t got = -1;
    struct stat found;
    if (at < 0) at = fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &found) ? found.st_size : lseek(fd, 0, SEEK_CUR);
    if (did == FAIL) errno = control->error;
    else got = offset < 0 ? syscall(SYS_write, fd, data, most) : syscall(SYS_pwrite64, fd, data, most, offset);
    saved = errno;
    if (got > 0) note(WRITE, 1, path, strlen(path), fd, at, data, got);
    if (did == KILL_AFTER || did == KILL_MID) die();
    pthread_mutex_unlock(&lock);
    errno = saved;
    return got;
}

ssize_t write(int fd, const void *data, size_t len) {
    return of(fd) ? write_it(fd, data, len, -1) : syscall(SYS_write, fd, data, len);
}
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    return of(fd) ? write_it(fd, data, len, at) : syscall(SYS_pwrite64, fd, data, len, at);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return pwrite(fd, data, len, at); }

int ftruncate(int fd, off_t size) {
    const char *path = of(fd);
    return path ? THROUGH(TRUNCATE, path, strlen(path), fd, size, syscall(SYS_ftruncate, fd, size))
                : syscall(SYS_ftruncate, fd, size);
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int sync_it(int fd, long number) {
    const char *path = of(fd);
    return path ? THROUGH(SYNC, path, strlen(path), fd, 0, control->no_sync ? 0 : syscall(number, fd)) : syscall(number, fd);
}
int fsync(int fd) { return sync_it(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_it(fd, SYS_fdatasync); }

int unlink(const char *path) {
    return ours(path) ? THROUGH(UNLINK, path, strlen(path), -1, 0, syscall(SYS_unlinkat, AT_FDCWD, path, 0)) : syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
int mkdir(const char *path, mode_t mode) {
    return ours(path) ? THROUGH(MKDIR, path, strlen(path), -1, 0, syscall(SYS_mkdirat, AT_FDCWD, path, mode)) : syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int rename(const char *from, const char *to) {
    if (!ours(from)) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    size_t a = strlen(from) + 1, b = strlen(to);
    char both[a + b + 1];
    memcpy(both, from, a), memcpy(both + a, to, b + 1);
    return THROUGH(RENAME, both, a + b, -1, 0, syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
