/* What mock.c, load.c and floor.c share: time, a growing buffer, loopback sockets, epoll.
 *
 * Not a library: only what all three need. Each program is one file with one thread, and dies with a message on what
 * cannot happen (no memory, no descriptor): a benchmark that limps on measures nothing. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 512 /* events taken from one epoll_wait */

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct buf {
    char *at;
    size_t len, room;
};

/* Room for `n` more bytes and a terminating NUL, so that string functions may look at what has come so far. */
static inline void buf_grow(struct buf *b, size_t n) {
    if (b->len + n + 1 <= b->room) return;
    b->room = (b->len + n + 1) * 2;
    if (!(b->at = realloc(b->at, b->room))) die("realloc");
}

static inline void buf_add(struct buf *b, const void *from, size_t n) {
    buf_grow(b, n);
    memcpy(b->at + b->len, from, n);
    b->len += n;
    b->at[b->len] = 0;
}

static inline void buf_drop(struct buf *b, size_t n) {
    b->len -= n;
    if (b->len) memmove(b->at, b->at + n, b->len);
    if (b->at) b->at[b->len] = 0;
}

/* Read what there is. >0: bytes; 0: the other side ended it (or broke); -1: nothing now. */
static inline ssize_t buf_read(struct buf *b, int fd) {
    buf_grow(b, 16384);
    ssize_t n = read(fd, b->at + b->len, 16384);
    if (n < 0) return errno == EAGAIN ? -1 : 0;
    b->len += (size_t)n;
    b->at[b->len] = 0;
    return n;
}

/* Send what fits. 0: it all went or the rest must wait; -1: the connection is broken. */
static inline int buf_send(struct buf *b, int fd) {
    if (!b->len) return 0;
    ssize_t n = send(fd, b->at, b->len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    buf_drop(b, (size_t)n);
    return 0;
}

/* The value of a header in `head` (NUL-terminated, ends with an empty line), or NULL. `name` is like "\r\nhost:". */
static inline const char *header(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    if (!found) return NULL;
    found += strlen(name);
    return found + strspn(found, " \t");
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* Listen on 127.0.0.1 (port 0: any free one) and say on stdout where, for the script that started us. */
static inline int listen_on(int port) {
    struct sockaddr_in a = loopback(port);
    socklen_t size = sizeof a;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, size) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&a, &size);
    printf("port %d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

static inline int accept_one(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) no_delay(fd);
    return fd;
}

/* Begin to connect to 127.0.0.1; what is written before it is done waits for EPOLLOUT. */
static inline int dial(int port) {
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    no_delay(fd);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline void watch(int ep, int op, int fd, uint32_t events, void *who) {
    struct epoll_event e = {.events = events, .data.ptr = who};
    if (epoll_ctl(ep, op, fd, &e)) die("epoll_ctl");
}

/* As many descriptors as the system lets us have: thousands of open streams need two or three each. */
static inline void many_files(void) {
    struct rlimit r;
    getrlimit(RLIMIT_NOFILE, &r);
    r.rlim_cur = r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}
