/* The client side of a measurement: closed loop over C keep-alive connections, or many streams held open.
 *
 *   load port=8088 model=mock c=16 seconds=5 [warmup=0.5] [limit=20000] [key=sk-...] [seed=1] [same=1]
 *        [stream=1 chunks=16 interval_ms=5] [open=1 ramp=2] [path=/v1/chat/completions] [header="Name: value"]...
 *        [quickack=1]
 *
 * Prints one JSON object. One thread, loopback, ~1 KB bodies. Every request is different (a number in its prompt, from
 * `seed` up) unless same=1. An answer counts only if it is a 200, every piece of content that mock.c was told to make
 * is there with this question's number on it, and it ends as it should; all else is an error, never a latency.
 *
 * Latency: from the first byte sent to the last received, of requests begun after the warm-up; those still open at the
 * end are waited for (10 s), so that slow answers are not left out. TTFT: to the first *content* of a stream.
 * rps: answers completed in the measured seconds (not of use with `limit`, which ends the run after so many requests). open=1: C streams begun evenly over `ramp` seconds, then lag (arrival
 * minus the time that mock.c stamped on the piece) of the `lags` pieces that arrive in the measured seconds.
 *
 * quickack=1 acknowledges at once what arrives. A Linux client does not: it waits up to 40 ms for something to send along,
 * and a server that left Nagle's algorithm on holds its second small packet back for as long. */
#include "net.h"

#define S 1000000000LL
#define FILLER \
    "You are reading the minutes of a town council. Answer in one paragraph, plainly, and name the vote. " \
    "The committee met on Tuesday to weigh the three proposals, and by noon it was plain that none of them would do " \
    "as they stood: the first was cheap and slow, the second fast and dear, and the third, which everyone liked, had " \
    "left out the bridge. They agreed to ask for a fourth that kept the price of the first, the pace of the second " \
    "and the good sense of the third, and to meet again once somebody had counted the lorries. The treasurer asked " \
    "that the minutes record how long the talk had taken and what it had cost, and that they be sent to all who had " \
    "spoken, with the figures of the last three years in a table beside those of the neighbouring towns for comparison."

enum { HEAD, LENGTH, CHUNKED, TO_EOF };

struct conn {
    int fd, state, status, seen, ended, close_after, waits_out;
    int64_t begin_at, start, first;
    long left;
    size_t scanned;
    char mark[32];
    struct buf out, in, text; /* to send; as received; the body, decoded */
};

struct list {
    int64_t *at;
    size_t n, room;
};

static int ep, port, c_max = 1, stream, chunks = 1, interval_ms, same, open_mode, quickack;
static double seconds = 5, warmup = 0.5, ramp = 2;
static const char *model = "mock", *key = "sk-bench", *path = "/v1/chat/completions";
static char headers[1024]; /* more of them, each with its line end */
static long long seed = 1, limit = INT64_MAX, sent, answered, errors, completed, abandoned, pieces;
static int64_t from, until; /* the measured seconds */
static int live;
static char first_error[400];
static struct list latency, ttft, lag;

static void note(struct list *l, int64_t v) {
    if (l->n == l->room && !(l->at = realloc(l->at, (l->room = l->room * 2 + 1024) * sizeof v))) die("realloc");
    l->at[l->n++] = v;
}

static int up(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The nearest-rank percentile as JSON, in ms; sorts. */
static const char *percentile(struct list *l, double p, char *into) {
    if (!l->n) return "null";
    qsort(l->at, l->n, sizeof *l->at, up);
    size_t rank = (size_t)(p * (double)l->n);
    sprintf(into, "%.4f", (double)l->at[rank < l->n ? rank : l->n - 1] / 1e6);
    return into;
}

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* Keep the first error's words, fit for a JSON string; count all of them. */
static void fail(struct conn *c, const char *why) {
    if (!errors++) {
        snprintf(first_error, sizeof first_error, "%s; status %d, %d of %d pieces: %.240s", why, c->status, c->seen,
                 stream ? chunks : 1, c->text.len ? c->text.at : c->in.len ? c->in.at : "");
        for (char *p = first_error; *p; p++) *p = *p < ' ' || *p > '~' ? ' ' : *p == '"' || *p == '\\' ? '\'' : *p;
    }
    hang_up(c);
}

static void flush(struct conn *c) {
    if (buf_send(&c->out, c->fd)) return fail(c, "the connection broke while sending");
    int waits = c->out.len > 0;
    if (waits != c->waits_out) watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | (waits ? EPOLLOUT : 0), c);
    c->waits_out = waits;
}

static void ask(struct conn *c) {
    char body[2048], head[2048];
    long long number = same ? seed : seed + sent;
    if (c->fd < 0) {
        if ((c->fd = dial(port)) < 0) return fail(c, "cannot connect");
        watch(ep, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
        c->waits_out = 0;
    }
    c->state = HEAD, c->status = c->seen = c->ended = 0, c->left = -1, c->first = 0, c->scanned = 0;
    c->out.len = c->in.len = c->text.len = 0;
    sprintf(c->mark, "#%lld @", number);
    int n = snprintf(body, sizeof body,
                     "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a careful clerk.\"},"
                     "{\"role\":\"user\",\"content\":\"[mock %d %d] #%lld " FILLER "\"}],\"temperature\":0,"
                     "\"max_tokens\":400%s}",
                     model, chunks, interval_ms, number, stream ? ",\"stream\":true" : "");
    buf_add(&c->out, head, (size_t)snprintf(head, sizeof head,
            "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
            "Authorization: Bearer %s\r\n%sContent-Length: %d\r\n\r\n", path, port, key, headers, n));
    buf_add(&c->out, body, (size_t)n);
    sent++;
    c->start = now_ns();
    flush(c);
    if (c->fd >= 0) live++;
}

/* Find the pieces of content in what has been decoded, and let go of what was looked at. */
static void scan(struct conn *c, int64_t now) {
    size_t mark = strlen(c->mark);
    char *hit, *stamp_end;
    while (c->scanned < c->text.len && (hit = strstr(c->text.at + c->scanned, c->mark))) {
        c->scanned = (size_t)(hit - c->text.at);
        if (!(stamp_end = strchr(hit + mark, '@'))) return; /* the rest is on its way */
        if (!c->seen++) c->first = now;
        pieces++;
        if (open_mode && now >= from && now < until) note(&lag, now - atoll(hit + mark));
        c->scanned = (size_t)(stamp_end - c->text.at);
    }
    if (c->text.len > c->scanned + 64) c->scanned = c->text.len - 64;
    if (c->scanned > 8192) buf_drop(&c->text, c->scanned), c->scanned = 0;
}

static void read_head(struct conn *c) {
    char *end = c->in.len ? strstr(c->in.at, "\r\n\r\n") : NULL;
    if (!end) return;
    end[2] = 0;
    const char *length = header(c->in.at, "\r\ncontent-length:"), *coding = header(c->in.at, "\r\ntransfer-encoding:");
    const char *close_it = header(c->in.at, "\r\nconnection:");
    c->status = c->in.len > 12 ? atoi(c->in.at + 9) : 0;
    c->close_after = close_it && !strncasecmp(close_it, "close", 5);
    c->state = coding ? CHUNKED : length ? LENGTH : TO_EOF;
    c->left = coding ? 0 : length ? atol(length) : -1;
    buf_drop(&c->in, (size_t)(end + 4 - c->in.at));
}

/* Move body bytes from `in` to `text` as far as they have come; sets `ended` at the end of the answer. */
static void decode(struct conn *c) {
    if (c->state == HEAD) read_head(c);
    if (c->state == LENGTH || c->state == TO_EOF) {
        size_t n = c->state == LENGTH && (long)c->in.len > c->left ? (size_t)c->left : c->in.len;
        buf_add(&c->text, c->in.at, n);
        buf_drop(&c->in, n);
        if (c->state == LENGTH && !(c->left -= (long)n)) c->ended = 1;
    }
    while (c->state == CHUNKED && !c->ended && c->in.len) {
        if (c->left > 2) { /* the chunk's bytes; its line end is the last two of `left` */
            size_t n = (long)c->in.len > c->left - 2 ? (size_t)(c->left - 2) : c->in.len;
            buf_add(&c->text, c->in.at, n);
            buf_drop(&c->in, n);
            c->left -= (long)n;
        } else if (c->left > 0) {
            size_t n = (long)c->in.len > c->left ? (size_t)c->left : c->in.len;
            buf_drop(&c->in, n);
            c->left -= (long)n;
        } else {
            char *line = strstr(c->in.at, "\r\n");
            if (!line) return;
            size_t used = (size_t)(line + 2 - c->in.at);
            long size = strtol(c->in.at, NULL, 16);
            if (!size && c->in.len < used + 2) return; /* the empty line after the last chunk is on its way */
            c->ended = !size;
            c->left = size ? size + 2 : 0;
            buf_drop(&c->in, used + (size ? 0 : 2));
        }
    }
}

static int whole(struct conn *c) {
    size_t n = c->text.len;
    if (c->status != 200 || c->seen != (stream ? chunks : 1)) return 0;
    if (stream) return n >= 14 && strstr(c->text.at + (n > 64 ? n - 64 : 0), "data: [DONE]") != NULL;
    while (n && strchr(" \r\n", c->text.at[n - 1])) n--;
    return n && c->text.at[n - 1] == '}';
}

static void settle(struct conn *c, int64_t now) {
    if (!whole(c)) return fail(c, "not a whole answer");
    answered++;
    if (now >= from && now < until) completed++;
    if (c->start >= from) {
        note(&latency, now - c->start);
        if (stream) note(&ttft, c->first - c->start);
    }
    if (c->close_after || c->state == TO_EOF) hang_up(c);
}

/* An event on a connection. Returns 1 when its request is over, well or not. */
static int step(struct conn *c, uint32_t events) {
    if (events & EPOLLOUT) flush(c);
    if (c->fd < 0) return 1;
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return 0;
    ssize_t n = buf_read(&c->in, c->fd);
    int64_t now = now_ns();
    if (quickack) setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &quickack, sizeof quickack); /* it does not last */
    if (n > 0) decode(c), scan(c, now);
    if (!n && c->state == TO_EOF) c->ended = 1;
    else if (!n && !c->ended) return fail(c, "the connection was closed before the answer ended"), 1;
    return c->ended ? settle(c, now), 1 : 0;
}

static void run(struct conn *all) {
    struct epoll_event events[BATCH];
    int next = 0;
    for (int64_t now; (now = now_ns()) < until + (open_mode ? 0 : 10 * S);) {
        for (; next < c_max && all[next].begin_at <= now; next++) ask(&all[next]);
        if (next == c_max && !live) return;
        int n = epoll_wait(ep, events, BATCH, next < c_max ? 1 : 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (c->fd < 0 || !step(c, events[i].events)) continue;
            live--;
            if (now_ns() >= until || open_mode || sent >= limit) continue;
            if (c->fd < 0 && errors > answered + 1000) return; /* nothing works: say so instead of going round */
            ask(c);
        }
    }
    abandoned = live;
}

static void report(void) {
    char a[32], b[32], d[32], e[32], f[32], g[32];
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
    if (!open_mode) errors += abandoned;
    if (!open_mode && abandoned && !*first_error) strcpy(first_error, "not answered 10 s after the end");
    printf("{\"requests\":%lld,\"answered\":%lld,\"rps\":%.2f,\"p50_ms\":%s,\"p99_ms\":%s,\"ttft_p50_ms\":%s,"
           "\"ttft_p99_ms\":%s,\"errors\":%lld,\"first_error\":\"%s\",\"pieces\":%lld,\"lags\":%zu,\"lag_p50_ms\":%s,"
           "\"lag_p99_ms\":%s,\"load_cpu_s\":%.3f}\n",
           sent, answered, (double)completed / seconds, percentile(&latency, .5, a), percentile(&latency, .99, b),
           percentile(&ttft, .5, d), percentile(&ttft, .99, e), errors, first_error, pieces, lag.n, percentile(&lag, .5, f),
           percentile(&lag, .99, g), cpu);
}

static void add_header(const char *line) {
    size_t used = strlen(headers);
    int n = snprintf(headers + used, sizeof headers - used, "%s\r\n", line);
    if (n >= (int)(sizeof headers - used)) fprintf(stderr, "load: too many headers\n"), exit(2);
}

static void option(const char *arg) {
    const char *eq = strchr(arg, '='), *v = eq ? eq + 1 : "";
    size_t n = eq ? (size_t)(eq - arg) : strlen(arg);
#define IS(name) (n == strlen(name) && !strncmp(arg, name, n))
    if (IS("port")) port = atoi(v);
    else if (IS("c")) c_max = atoi(v);
    else if (IS("stream")) stream = atoi(v);
    else if (IS("chunks")) chunks = atoi(v);
    else if (IS("interval_ms")) interval_ms = atoi(v);
    else if (IS("same")) same = atoi(v);
    else if (IS("open")) open_mode = atoi(v);
    else if (IS("quickack")) quickack = atoi(v);
    else if (IS("seconds")) seconds = atof(v);
    else if (IS("warmup")) warmup = atof(v);
    else if (IS("ramp")) ramp = atof(v);
    else if (IS("seed")) seed = atoll(v);
    else if (IS("limit")) limit = atoll(v);
    else if (IS("model")) model = v;
    else if (IS("key")) key = v;
    else if (IS("path") && strlen(v) < 256) path = v;
    else if (IS("header")) add_header(v);
    else fprintf(stderr, "load: no option %s\n", arg), exit(2);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) option(argv[i]);
    if (!port) return fprintf(stderr, "load: port=N is needed; see the head of load.c\n"), 2;
    many_files();
    ep = epoll_create1(EPOLL_CLOEXEC);
    struct conn *all = calloc((size_t)c_max, sizeof *all);
    int64_t start = now_ns();
    from = start + (int64_t)((open_mode ? ramp + 1 : warmup) * (double)S);
    until = from + (int64_t)(seconds * (double)S);
    for (int i = 0; i < c_max; i++) {
        all[i].fd = -1;
        all[i].begin_at = start + (open_mode ? (int64_t)(ramp * (double)S) * i / c_max : 0);
        buf_grow(&all[i].in, 1), buf_grow(&all[i].text, 1);
    }
    run(all);
    report();
    return 0;
}
