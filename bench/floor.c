/* The floor: what it costs to be in the way at all. A blind byte forwarder, one upstream connection per client.
 *
 *   floor UPSTREAM_PORT [PORT]     prints "port N"; one thread, loopback only
 *
 * It reads no HTTP, so nothing that does can be cheaper with the same system calls; gateways are measured as multiples
 * of it. A side that is slow to take its bytes stops the reading of the other side: nothing is buffered without bound. */
#include "net.h"

#define BOUND 65536

struct side {
    int fd;
    uint32_t watched;
    struct buf out; /* waits to be written to fd */
    struct side *other;
};

static int ep;
static struct side *dead[2 * BATCH]; /* freed after the batch: it may hold an event for the other side */
static int n_dead;

static void bury(struct side *s) {
    if (s->fd < 0) return;
    close(s->fd), close(s->other->fd);
    s->fd = s->other->fd = -1;
    dead[n_dead++] = s, dead[n_dead++] = s->other;
}

static struct side *side(int fd) {
    struct side *s = calloc(1, sizeof *s);
    if (!s) die("calloc");
    s->fd = fd, s->watched = EPOLLIN;
    watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN, s);
    return s;
}

static void meet(int client, int upstream_port) {
    int upstream = dial(upstream_port);
    if (upstream < 0) {
        close(client);
        return;
    }
    struct side *a = side(client), *b = side(upstream);
    a->other = b, b->other = a;
}

static void watch_again(struct side *s) {
    uint32_t want = (s->out.len ? EPOLLOUT : 0) | (s->other->out.len < BOUND ? EPOLLIN : 0);
    if (want != s->watched) watch(ep, EPOLL_CTL_MOD, s->fd, want, s);
    s->watched = want;
}

static void forward(struct side *s, uint32_t events) {
    if (s->fd < 0) return;
    if (events & EPOLLOUT && buf_send(&s->out, s->fd)) return bury(s);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (!buf_read(&s->other->out, s->fd)) return bury(s);
        if (buf_send(&s->other->out, s->other->fd)) return bury(s);
    }
    watch_again(s), watch_again(s->other);
}

int main(int argc, char **argv) {
    struct epoll_event events[BATCH];
    if (argc < 2) return fprintf(stderr, "floor UPSTREAM_PORT [PORT]\n"), 2;
    many_files();
    ep = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(argc > 2 ? atoi(argv[2]) : 0);
    watch(ep, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (;;) {
        int n = epoll_wait(ep, events, BATCH, -1), fd;
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr) forward(events[i].data.ptr, events[i].events);
            else if ((fd = accept_one(listener)) >= 0) meet(fd, atoi(argv[1]));
        while (n_dead) free(dead[--n_dead]->out.at), free(dead[n_dead]);
    }
}
