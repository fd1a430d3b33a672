/*
 * Many WebSocket clients in one thread: counts, checks and times every delivery.
 *
 * A price object carries its symbol, under "last_size" a number that grows by one with
 * each update of the symbol, and under "ask_size" when it was sent, in nanoseconds.
 * Client number c hears `per client` symbols; which, follows from c, so that all
 * symbols have the same number of listeners and few clients the same set.
 *
 * Commands on standard input, each answered by one line of JSON:
 *   open N   have N connections in all, subscribed
 *   status   tell how many are open, and how many (client, symbol) pairs were heard
 *   start    begin a measurement
 *   stop     end it and tell what was seen since it began
 */
#include "wire.h"

#include <sys/epoll.h>
#include <sys/resource.h>

enum {
    MAX_STRIDES = 16,
    MAX_OPENING = 64, /* handshakes at a time */
    BUFFER = 8 << 20,
    REQUEST = 64 << 10,
    STEPS = 64, /* of the histogram, for each doubling: within 1.6 % */
};

enum protocol { JSON_PROTOCOL, NATS_PROTOCOL };
enum state { UNUSED, SHAKING, OPEN, CLOSED };

/* What came and is not a whole frame, or a whole operation of NATS, yet. */
struct rest {
    char *bytes;
    size_t size, room;
};

struct client {
    int fd;
    enum state state;
    uint32_t base, inverse, stride;
    struct rest raw, stream;
    uint32_t *last; /* newest number of each of its symbols; 0 if none was heard */
};

/* What was seen since `start`. */
struct tally {
    uint64_t began_ns, cpu_ns;
    uint64_t deliveries, represented, frames, bytes;
    uint64_t missed, repeated, foreign, closed;
    uint64_t latency_ns_sum, latency_ns_max;
    uint32_t histogram[64 * STEPS];
};

static struct options {
    int port, clients, symbols, per_client, chunk;
    const char *path, *request;
    enum protocol protocol;
} options = {.chunk = 50, .path = "/", .protocol = JSON_PROTOCOL};

static struct client *clients;
static int asked, begun, open_count, shaking, refused;
static uint64_t heard;
static struct tally tally;
static char *buffer, *stream_buffer;
static int poller;

/* ---- which symbols a client has ---------------------------------------------- */

static uint32_t common_divisor(uint32_t a, uint32_t b) { return b ? common_divisor(b, a % b) : a; }

/* Symbols of a client are base, base + stride, base + 2 stride ... modulo all. */
static void deal_symbols(void) {
    uint32_t strides[MAX_STRIDES], inverses[MAX_STRIDES], count = 0;
    uint32_t all = (uint32_t)options.symbols;
    for (uint32_t stride = 1; count < MAX_STRIDES && (stride < all || stride == 1); stride++) {
        if (common_divisor(stride, all) != 1) continue;
        uint32_t inverse = 0;
        while (inverse < all && (uint64_t)inverse * stride % all != 1 % all) inverse++;
        strides[count] = stride;
        inverses[count++] = inverse;
    }
    for (int number = 0; number < options.clients; number++) {
        struct client *client = &clients[number];
        uint32_t kind = (uint32_t)number / all % count;
        bool few = options.clients < options.symbols;
        client->base = few ? (uint32_t)((uint64_t)number * all / (uint32_t)options.clients) : (uint32_t)number % all;
        client->stride = strides[kind];
        client->inverse = inverses[kind];
        client->last = room(NULL, sizeof *client->last * (size_t)options.per_client);
        memset(client->last, 0, sizeof *client->last * (size_t)options.per_client);
        client->fd = -1;
    }
}

static int symbol_of(const struct client *client, int slot) {
    return (int)((client->base + (uint64_t)client->stride * (uint32_t)slot) % (uint32_t)options.symbols);
}

/* Return the place of symbol *number* among the client's, or -1. */
static int slot_of(const struct client *client, int number) {
    uint32_t all = (uint32_t)options.symbols;
    if ((uint32_t)number >= all) return -1;
    uint32_t slot = (uint32_t)((uint64_t)((uint32_t)number + all - client->base) * client->inverse % all);
    return slot < (uint32_t)options.per_client ? (int)slot : -1;
}

/* ---- deliveries --------------------------------------------------------------- */

static void note_latency(uint64_t ns) {
    tally.latency_ns_sum += ns;
    if (ns > tally.latency_ns_max) tally.latency_ns_max = ns;
    int index;
    if (ns < STEPS) {
        index = (int)ns;
    } else {
        int doublings = 63 - __builtin_clzll(ns) - 6;
        index = (doublings + 1) * STEPS + (int)(ns >> doublings) - STEPS;
    }
    tally.histogram[index]++;
}

static double latency_ms(double share) {
    uint64_t wanted = (uint64_t)(share * (double)tally.deliveries), seen = 0;
    for (int index = 0; index < 64 * STEPS; index++) {
        seen += tally.histogram[index];
        if (seen <= wanted) continue;
        int doublings = index / STEPS - 1;
        uint64_t ns = index < STEPS ? (uint64_t)index : (uint64_t)(index % STEPS + STEPS) << doublings;
        return (double)ns / 1e6;
    }
    return (double)tally.latency_ns_max / 1e6;
}

static void note_delivery(struct client *client, int symbol, uint32_t number, uint64_t sent_ns, uint64_t now) {
    int slot = slot_of(client, symbol);
    if (slot < 0) {
        tally.foreign++;
        return;
    }
    uint32_t last = client->last[slot];
    tally.deliveries++;
    if (!last) {
        heard++;
        tally.represented++;
    } else if (number <= last) {
        tally.repeated++;
        return;
    } else {
        tally.represented += number - last;
        tally.missed += number - last - 1;
    }
    client->last[slot] = number;
    note_latency(now > sent_ns ? now - sent_ns : 0);
}

/* Objects of one run are nearly alike: look first where the key was last time. */
static const char *find_key(const char *from, const char *end, const char *key, size_t size, size_t *usual) {
    if (*usual + size < (size_t)(end - from) && !memcmp(from + *usual, key, size)) return from + *usual;
    const char *found = memmem(from, (size_t)(end - from), key, size);
    if (found) *usual = (size_t)(found - from);
    return found;
}

#define FIND(from, end, key, usual) find_key(from, end, key, sizeof(key) - 1, usual)

static const char *value_after(const char *key, size_t size) {
    const char *at = key + size;
    while (*at == ':' || *at == ' ' || *at == '"') at++;
    return at;
}

/* Take every price object in *text*: one, or an array of them. */
static void take_text(struct client *client, const char *text, const char *end, uint64_t now) {
    static size_t to_first, to_size, to_sent, to_next;
    const char *at = FIND(text, end, "\"symbol\"", &to_first);
    while (at) {
        const char *size = FIND(at, end, "\"last_size\"", &to_size);
        const char *sent = size ? FIND(size, end, "\"ask_size\"", &to_sent) : NULL;
        if (!sent) return; /* an acknowledgement or the like */
        int symbol = symbol_number(value_after(at, 8), end);
        uint32_t number = (uint32_t)take_digits(value_after(size, 11), end);
        note_delivery(client, symbol, number, take_digits(value_after(sent, 10), end), now);
        at = FIND(sent, end, "\"symbol\"", &to_next);
    }
}

/* ---- connections -------------------------------------------------------------- */

static void keep(struct rest *rest, const char *bytes, size_t size) {
    if (size > rest->room) {
        rest->room = size * 2;
        rest->bytes = room(rest->bytes, rest->room);
    }
    if (size) memcpy(rest->bytes, bytes, size);
    rest->size = size;
}

static void lose(struct client *client) {
    if (client->state == SHAKING) {
        shaking--;
        refused++;
    } else {
        open_count--;
        tally.closed++;
    }
    close(client->fd);
    client->state = CLOSED;
}

static void send_frame(struct client *client, int opcode, const char *payload, size_t size) {
    char head[16];
    size_t header = ws_head(head, opcode, size, true);
    send_all(client->fd, head, header);
    send_all(client->fd, payload, size);
}

static void subscribe_json(struct client *client) {
    char request[REQUEST];
    const char *place = strchr(options.request, '@');
    for (int slot = 0; slot < options.per_client; slot += options.chunk) {
        char *at = request + sprintf(request, "%.*s", (int)(place - options.request), options.request);
        for (int i = slot; i < options.per_client && i < slot + options.chunk; i++) {
            if (i > slot) *at++ = ',';
            *at++ = '"';
            put_symbol(at, symbol_of(client, i));
            at += SYMBOL_SIZE;
            *at++ = '"';
        }
        at += sprintf(at, "%s", place + 1);
        send_frame(client, WS_TEXT, request, (size_t)(at - request));
    }
}

static void subscribe_nats(struct client *client) {
    char request[REQUEST];
    char *at = request + sprintf(request, "%s", NATS_CONNECT);
    for (int slot = 0; slot < options.per_client; slot++) {
        at += sprintf(at, "SUB %s", options.request);
        put_symbol(at, symbol_of(client, slot));
        at += SYMBOL_SIZE;
        at += sprintf(at, " %d\r\n", slot + 1);
    }
    send_frame(client, WS_BINARY, request, (size_t)(at - request));
}

/* Take the operations of NATS in the bytes that the frames carried. */
static void take_stream(struct client *client, const char *at, const char *end, uint64_t now) {
    struct nats_message message;
    const char *next;
    enum nats_kind kind;
    while (at < end && (kind = nats_read(at, end, &message, &next)) != NATS_INCOMPLETE) {
        if (kind == NATS_MESSAGE) take_text(client, message.payload, message.payload + message.size, now);
        if (kind == NATS_PING) send_frame(client, WS_BINARY, "PONG\r\n", 6);
        at = next;
    }
    keep(&client->stream, at, (size_t)(end - at));
}

static void take_frames(struct client *client, char *at, char *end) {
    struct ws_frame frame;
    char *next;
    size_t streamed = client->stream.size;
    uint64_t now = now_ns();
    if (streamed) memcpy(stream_buffer, client->stream.bytes, streamed);
    while ((next = ws_read(at, end, &frame))) {
        at = next;
        if (frame.opcode == WS_PING) {
            send_frame(client, WS_PONG, frame.payload, frame.size);
        } else if (frame.opcode == WS_CLOSE) {
            lose(client);
            return;
        } else if (frame.opcode < WS_CLOSE && options.protocol == NATS_PROTOCOL) {
            memcpy(stream_buffer + streamed, frame.payload, frame.size);
            streamed += frame.size;
            tally.frames++;
        } else if (frame.opcode == WS_TEXT) {
            if (!frame.final) die("fragmented text is not understood");
            take_text(client, frame.payload, frame.payload + frame.size, now);
            tally.frames++;
        }
    }
    if (options.protocol == NATS_PROTOCOL) take_stream(client, stream_buffer, stream_buffer + streamed, now);
    keep(&client->raw, at, (size_t)(end - at));
}

static void take_handshake(struct client *client, char *bytes, char *end) {
    char *head_end = memmem(bytes, (size_t)(end - bytes), "\r\n\r\n", 4);
    if (!head_end) {
        keep(&client->raw, bytes, (size_t)(end - bytes));
        return;
    }
    if (strncmp(bytes, "HTTP/1.1 101", 12)) {
        lose(client);
        return;
    }
    client->state = OPEN;
    shaking--;
    open_count++;
    if (options.protocol == NATS_PROTOCOL) subscribe_nats(client);
    else if (options.request && options.per_client) subscribe_json(client);
    take_frames(client, head_end + 4, end);
}

static void readable(struct client *client) {
    size_t kept = client->raw.size;
    if (kept) memcpy(buffer, client->raw.bytes, kept);
    ssize_t got = recv(client->fd, buffer + kept, BUFFER - kept, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        lose(client);
        return;
    }
    client->raw.size = 0;
    tally.bytes += (uint64_t)got;
    char *end = buffer + kept + got;
    if (client->state == SHAKING) take_handshake(client, buffer, end);
    else take_frames(client, buffer, end);
}

static void begin(struct client *client) {
    char request[1024];
    client->fd = connect_to(options.port);
    /* So that thousands of closed connections do not linger on this machine. */
    struct linger linger = {1, 0};
    setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    set_nonblocking(client->fd);
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: " WS_KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        options.path, options.port);
    send_all(client->fd, request, (size_t)size);
    client->state = SHAKING;
    shaking++;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
}

/* ---- commands ----------------------------------------------------------------- */

static uint64_t cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void tell_status(void) {
    printf("{\"open\": %d, \"refused\": %d, \"heard\": %llu}\n", open_count, refused, (unsigned long long)heard);
}

static void start(void) {
    memset(&tally, 0, sizeof tally);
    tally.began_ns = now_ns();
    tally.cpu_ns = cpu_ns();
    puts("{}");
}

static void stop(void) {
    double seconds = (double)(now_ns() - tally.began_ns) / 1e9;
    double timed = (double)(tally.deliveries - tally.repeated);
    printf("{\"seconds\": %.4f, \"cpu_share\": %.3f", seconds, (double)(cpu_ns() - tally.cpu_ns) / 1e9 / seconds);
    struct {
        const char *name;
        uint64_t value;
    } counts[] = {{"deliveries", tally.deliveries}, {"represented", tally.represented}, {"frames", tally.frames},
                  {"bytes", tally.bytes},           {"missed", tally.missed},           {"repeated", tally.repeated},
                  {"foreign", tally.foreign},       {"closed", tally.closed}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        printf(", \"%s\": %llu", counts[i].name, (unsigned long long)counts[i].value);
    printf(", \"mean_ms\": %.4f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"p999_ms\": %.4f, \"max_ms\": %.4f}\n",
           timed > 0 ? (double)tally.latency_ns_sum / timed / 1e6 : 0, latency_ms(0.5), latency_ms(0.99),
           latency_ms(0.999), (double)tally.latency_ns_max / 1e6);
}

static void obey(void) {
    char line[128];
    ssize_t got = read(0, line, sizeof line - 1);
    if (got <= 0) exit(0);
    line[got] = 0;
    if (sscanf(line, "open %d", &asked) == 1) {
        if (asked > options.clients) die("at most %d clients", options.clients);
        return; /* answered when all are open */
    }
    if (!strncmp(line, "status", 6)) tell_status();
    else if (!strncmp(line, "start", 5)) start();
    else if (!strncmp(line, "stop", 4)) stop();
    else die("unknown command: %s", line);
    fflush(stdout);
}

static void read_options(int count, char **arguments) {
    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];
        if (!strcmp(name, "--port")) options.port = atoi(value);
        else if (!strcmp(name, "--path")) options.path = value;
        else if (!strcmp(name, "--clients")) options.clients = atoi(value);
        else if (!strcmp(name, "--symbols")) options.symbols = atoi(value);
        else if (!strcmp(name, "--per-client")) options.per_client = atoi(value);
        else if (!strcmp(name, "--chunk")) options.chunk = atoi(value);
        else if (!strcmp(name, "--request")) options.request = value;
        else if (!strcmp(name, "--protocol")) options.protocol = strcmp(value, "nats") ? JSON_PROTOCOL : NATS_PROTOCOL;
        else die("unknown option %s", name);
    }
    if (!options.port || options.clients < 1 || options.symbols < 1 || options.symbols > MAX_SYMBOLS ||
        options.per_client > options.symbols || !options.request ||
        (options.protocol == JSON_PROTOCOL && !strchr(options.request, '@')))
        die("usage: loadgen --port P --clients N --symbols S --per-client K --request TEXT_WITH_@"
            " [--path /] [--chunk 50] [--protocol json|nats]");
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    buffer = room(NULL, BUFFER);
    stream_buffer = room(NULL, 2 * BUFFER);
    clients = room(NULL, sizeof *clients * (size_t)options.clients);
    memset(clients, 0, sizeof *clients * (size_t)options.clients);
    deal_symbols();
    poller = epoll_create1(0);
    struct epoll_event command = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &command);

    bool opening = false;
    struct epoll_event events[512];
    for (;;) {
        int ready = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) {
                readable(events[i].data.ptr);
            } else {
                obey();
                opening = begun < asked || opening;
            }
        }
        while (begun < asked && shaking < MAX_OPENING) begin(&clients[begun++]);
        if (opening && begun == asked && !shaking) {
            opening = false;
            tell_status();
            fflush(stdout);
        }
    }
}
