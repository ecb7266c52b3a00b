/* A provider that costs nothing: answers /v1/chat/completions at once, so that what is left is the gateway's.
 *
 *   mock [PORT]       prints "port N", serves until killed; one thread, HTTP/1.1 keep-alive, loopback only
 *
 * The prompt says what to do, because a prompt passes every gateway unchanged: "[mock CHUNKS INTERVAL_MS] #NUMBER".
 * Every piece of content is "#NUMBER @NANOSECONDS@ words": the number proves that an answer belongs to its question,
 * the time (CLOCK_MONOTONIC, when the piece was made) tells how late it arrives. A streamed answer is a role chunk,
 * then CHUNKS pieces, the first at once and the others INTERVAL_MS apart on a fixed schedule, each with its own
 * send(); then the finish, the usage if the request has "include_usage", and [DONE]. */
#include "net.h"

#define SLOTS 4096 /* of 1 ms: the longest interval, and one turn of the timer wheel */
static const char WORDS[] =
    "The committee met on Tuesday to weigh the three proposals, and by noon it was plain that none of them would do as "
    "they stood: the first was cheap and slow, the second fast and dear, and the third, which everyone liked, had left "
    "out the bridge. They agreed to ask for a fourth that kept the price of the first, the pace of the second and the "
    "good sense of the third, and to meet again once somebody had counted the lorries. ";

struct conn {
    int fd, streams, usage, chunks, left, interval_ms, last, waits_out, in_wheel;
    char number[24];
    struct buf in, out;
    struct conn *next;
};

static int ep, sleeping;
static int64_t wheel_ms;
static struct conn *wheel[SLOTS];

static void end(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    if (c->in_wheel) return; /* its slot frees it */
    free(c->in.at);
    free(c->out.at);
    free(c);
}

static void sleep_until(struct conn *c, int64_t at_ms) {
    c->next = wheel[at_ms % SLOTS];
    wheel[at_ms % SLOTS] = c;
    c->in_wheel = 1;
    sleeping++;
}

/* Returns -1 when the connection is gone (and `c` with it). */
static int flush(struct conn *c) {
    if (buf_send(&c->out, c->fd)) return end(c), -1;
    int waits = c->out.len > 0;
    if (waits != c->waits_out) watch(ep, EPOLL_CTL_MOD, c->fd, EPOLLIN | (waits ? EPOLLOUT : 0), c);
    c->waits_out = waits;
    if (!waits && c->last && !c->streams) return end(c), -1;
    return 0;
}

static void event(struct conn *c, const char *json, int n) {
    char head[64];
    buf_add(&c->out, head, (size_t)sprintf(head, "%x\r\ndata: ", n + 8));
    buf_add(&c->out, json, (size_t)n);
    buf_add(&c->out, "\n\n\r\n", 4);
}

#define CHUNK "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"mock\","

static void finish(struct conn *c) {
    char json[512];
    event(c, json, sprintf(json, CHUNK "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}"));
    if (c->usage)
        event(c, json, sprintf(json, CHUNK "\"choices\":[],\"usage\":{\"prompt_tokens\":210,\"completion_tokens\":%d,"
                                           "\"total_tokens\":%d}}", c->chunks * 12, 210 + c->chunks * 12));
    event(c, "[DONE]", 6);
    buf_add(&c->out, "0\r\n\r\n", 5);
    c->streams = 0;
}

/* One piece, or the end after the last. Returns -1 when the connection is gone. */
static int piece(struct conn *c) {
    char json[512];
    int n = sprintf(json, CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"#%s @%lld@ %.50s\"},"
                                "\"finish_reason\":null}]}", c->number, (long long)now_ns(), WORDS);
    event(c, json, n);
    if (!--c->left) finish(c);
    return flush(c);
}

static int start_stream(struct conn *c) {
    static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                               "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char ROLE[] = CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                                     "\"finish_reason\":null}]}";
    c->streams = 1;
    c->left = c->chunks;
    buf_add(&c->out, HEAD, sizeof HEAD - 1);
    event(c, ROLE, sizeof ROLE - 1);
    do
        if (piece(c)) return -1;
    while (c->streams && !c->interval_ms);
    if (c->streams) sleep_until(c, now_ns() / 1000000 + c->interval_ms);
    return 0;
}

static int whole(struct conn *c, const char *json, int n) {
    char head[128];
    buf_add(&c->out, head, (size_t)sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                                 "Content-Length: %d\r\n\r\n", n));
    buf_add(&c->out, json, (size_t)n);
    return flush(c);
}

static int answer_whole(struct conn *c) {
    char json[2048];
    int n = sprintf(json, "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1790000000,\"model\":\"mock\","
                          "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"#%s @%lld@ %s%.300s\","
                          "\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":210,"
                          "\"completion_tokens\":160,\"total_tokens\":370}}",
                    c->number, (long long)now_ns(), WORDS, WORDS);
    return whole(c, json, n);
}

static int answer(struct conn *c, const char *body) {
    static const char MODELS[] = "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\"}]}";
    if (!strncmp(c->in.at, "GET ", 4)) return whole(c, MODELS, sizeof MODELS - 1);
    const char *order = strstr(body, "[mock ");
    c->chunks = 1, c->interval_ms = 0, c->number[0] = 0;
    if (order) sscanf(order, "[mock %d %d] #%20[0-9]", &c->chunks, &c->interval_ms, c->number);
    if (c->chunks < 1) c->chunks = 1;
    if (c->interval_ms >= SLOTS) c->interval_ms = SLOTS - 1;
    c->usage = strstr(body, "include_usage") != NULL;
    int streamed = strstr(body, "\"stream\":true") || strstr(body, "\"stream\": true");
    return streamed ? start_stream(c) : answer_whole(c);
}

/* Take whole requests off the input; stop while one is being streamed. Returns -1 when the connection is gone. */
static int take(struct conn *c) {
    char *head_end;
    while (!c->streams && c->in.len && (head_end = strstr(c->in.at, "\r\n\r\n"))) {
        char *body = head_end + 4, *end_of_body, kept;
        head_end[2] = 0; /* look for headers in the head only */
        const char *length = header(c->in.at, "\r\ncontent-length:"), *close_it = header(c->in.at, "\r\nconnection:");
        int chunked = header(c->in.at, "\r\ntransfer-encoding:") != NULL;
        c->last = close_it && !strncasecmp(close_it, "close", 5);
        head_end[2] = '\r';
        if (chunked) { /* the end is found without decoding: raw line ends cannot stand inside JSON text */
            if (!(end_of_body = strstr(body, "0\r\n\r\n"))) return 0;
            end_of_body += 5;
        } else {
            end_of_body = body + (length ? atol(length) : 0);
            if (end_of_body > c->in.at + c->in.len) return 0;
        }
        kept = *end_of_body;
        *end_of_body = 0;
        size_t used = (size_t)(end_of_body - c->in.at);
        if (answer(c, body)) return -1;
        *end_of_body = kept;
        buf_drop(&c->in, used);
    }
    return 0;
}

static void turn_wheel(void) {
    for (int64_t now = now_ns() / 1000000; wheel_ms < now;) {
        struct conn *c = wheel[++wheel_ms % SLOTS], *next;
        wheel[wheel_ms % SLOTS] = NULL;
        for (; c; c = next) {
            next = c->next;
            c->in_wheel = 0, sleeping--;
            if (c->fd < 0) end(c);
            else if (piece(c)) continue;
            else if (c->streams) sleep_until(c, wheel_ms + c->interval_ms);
            else take(c);
        }
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[BATCH];
    many_files();
    ep = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    watch(ep, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    for (wheel_ms = now_ns() / 1000000;;) {
        int n = epoll_wait(ep, events, BATCH, sleeping ? 1 : -1);
        if (!sleeping) wheel_ms = now_ns() / 1000000;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) {
                int fd = accept_one(listener);
                if (fd < 0) continue;
                if (!(c = calloc(1, sizeof *c))) die("calloc");
                c->fd = fd;
                watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN, c);
                continue;
            }
            if (events[i].events & EPOLLOUT && flush(c)) continue;
            if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
            if (!buf_read(&c->in, c->fd)) end(c);
            else take(c);
        }
        turn_wheel();
    }
}
