/*
 * Publishes price messages onto NATS at a given rate.
 *
 * A template, one message as the ingest would write it, is copied for every symbol; a
 * publish only overwrites digits in it. All fields keep their width, so that no length
 * changes. What marks the fields in the template is given on the command line.
 *
 * Commands on standard input, each answered by one line of JSON:
 *   rate R S   publish R updates a second, on the first S symbols in turn
 *   round S    publish each of the first S symbols once
 *   count      tell how many were published
 */
#include "wire.h"

#include <poll.h>
#include <sys/resource.h>

enum { MAX_PLACES = 16, BATCH = 256, ISO_SIZE = 27 };
/* Shorter pauses would only cost system calls: what is due leaves in one write. */
static const uint64_t PAUSE_NS = 500000;

/* Where a field stands in each message; it may stand there several times. */
struct field {
    const char *mark;
    size_t places[MAX_PLACES];
    int count;
};

static struct field symbol_field = {"B00000", {0}, 0};
static struct field sequence_field = {"1000000001", {0}, 0};
static struct field counter_field = {"1000000002", {0}, 0};
static struct field milliseconds_field = {"1000000000003", {0}, 0};
static struct field nanoseconds_field = {"1000000000000000004", {0}, 0};
static struct field iso_field = {"2001-02-03T04:05:06.000007Z", {0}, 0};

static char *messages;
static size_t message_size;
static uint64_t *counters;
static uint64_t sequence = 1000000001, published;
static int nats, symbols, next_symbol;

static void find(struct field *field, const char *text, size_t size) {
    size_t width = strlen(field->mark);
    const char *at = text;
    while ((at = memmem(at, (size_t)(text + size - at), field->mark, width))) {
        if (field->count == MAX_PLACES) die("%s stands in too many places", field->mark);
        field->places[field->count++] = (size_t)(at - text);
        at += width;
    }
}

static void patch(const struct field *field, char *message, uint64_t number) {
    for (int i = 0; i < field->count; i++)
        put_digits(message + field->places[i], number, (int)strlen(field->mark));
}

/* Microseconds, UTC: as feedmesh.clock.iso writes an instant. */
static void iso(char *text, uint64_t instant_ns) {
    static time_t known = -1;
    static char prefix[32];
    time_t seconds = (time_t)(instant_ns / 1000000000u);
    if (seconds != known) {
        struct tm parts;
        gmtime_r(&seconds, &parts);
        strftime(prefix, sizeof prefix, "%Y-%m-%dT%H:%M:%S.000000Z", &parts);
        known = seconds;
    }
    memcpy(text, prefix, ISO_SIZE);
    put_digits(text + 20, instant_ns % 1000000000u / 1000, 6);
}

static void make_messages(const char *prefix, const char *path) {
    char payload[4096], message[8192];
    FILE *file = fopen(path, "rb");
    if (!file) die("cannot read %s", path);
    size_t size = fread(payload, 1, sizeof payload, file);
    fclose(file);
    int head = snprintf(message, sizeof message, "PUB %s%s %zu\r\n", prefix, symbol_field.mark, size);
    memcpy(message + head, payload, size);
    memcpy(message + head + size, "\r\n", 2);
    message_size = (size_t)head + size + 2;
    struct field *all[] = {&symbol_field, &sequence_field, &counter_field, &milliseconds_field,
                           &nanoseconds_field, &iso_field};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) find(all[i], message, message_size);
    if (!counter_field.count || !nanoseconds_field.count) die("%s lacks a field", path);
    messages = room(NULL, message_size * (size_t)symbols);
    counters = room(NULL, sizeof *counters * (size_t)symbols);
    for (int number = 0; number < symbols; number++) {
        char *own = messages + message_size * (size_t)number;
        memcpy(own, message, message_size);
        for (int i = 0; i < symbol_field.count; i++) put_symbol(own + symbol_field.places[i], number);
        counters[number] = 1000000002;
    }
}

static void publish(int amount, int among) {
    static char *out;
    if (!out) out = room(NULL, message_size * BATCH);
    while (amount > 0) {
        int batch = amount < BATCH ? amount : BATCH;
        char stamp[ISO_SIZE], *at = out;
        uint64_t now = now_ns();
        iso(stamp, now);
        for (int i = 0; i < batch; i++) {
            if (next_symbol >= among) next_symbol = 0;
            char *message = messages + message_size * (size_t)next_symbol;
            patch(&sequence_field, message, sequence++);
            patch(&counter_field, message, counters[next_symbol]++);
            patch(&milliseconds_field, message, now / 1000000u);
            patch(&nanoseconds_field, message, now);
            for (int place = 0; place < iso_field.count; place++)
                memcpy(message + iso_field.places[place], stamp, ISO_SIZE);
            memcpy(at, message, message_size);
            at += message_size;
            next_symbol++;
        }
        send_all(nats, out, (size_t)(at - out));
        published += (uint64_t)batch;
        amount -= batch;
    }
}

static void greet(int port) {
    const char *hello = NATS_CONNECT "PING\r\n";
    char answer[65536];
    size_t size = 0;
    nats = connect_to(port);
    send_all(nats, hello, strlen(hello));
    do {
        ssize_t got = recv(nats, answer + size, sizeof answer - 1 - size, 0);
        if (got <= 0) die("NATS closed the connection");
        size += (size_t)got;
        answer[size] = 0;
    } while (!strstr(answer, "PONG\r\n"));
}

static void hear_nats(void) {
    char text[4096];
    ssize_t got = recv(nats, text, sizeof text - 1, MSG_DONTWAIT);
    if (got == 0) die("NATS closed the connection");
    if (got < 0) return;
    text[got] = 0;
    if (strstr(text, "-ERR")) die("NATS says: %s", text);
    if (strstr(text, "PING")) send_all(nats, "PONG\r\n", 6);
}

static void tell(void) {
    printf("{\"published\": %llu}\n", (unsigned long long)published);
    fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 5) die("usage: publisher NATS_PORT SUBJECT_PREFIX TEMPLATE SYMBOLS");
    symbols = atoi(arguments[4]);
    if (symbols < 1 || symbols > MAX_SYMBOLS) die("cannot have %d symbols", symbols);
    make_messages(arguments[2], arguments[3]);
    greet(atoi(arguments[1]));
    tell();

    double rate = 0;
    int among = symbols;
    uint64_t since = now_ns(), sent = 0;
    for (;;) {
        uint64_t pause = 50000000u;
        if (rate > 0) {
            uint64_t due = (uint64_t)((double)(now_ns() - since) / 1e9 * rate);
            if (due > sent) publish((int)(due - sent), among);
            sent = due > sent ? due : sent;
            uint64_t next = since + (uint64_t)((double)(sent + 1) / rate * 1e9), now = now_ns();
            pause = next > now + PAUSE_NS ? next - now : PAUSE_NS;
        }
        struct timespec wait = {(time_t)(pause / 1000000000u), (long)(pause % 1000000000u)};
        struct pollfd polled[] = {{0, POLLIN, 0}, {nats, POLLIN, 0}};
        if (ppoll(polled, 2, &wait, NULL) <= 0) continue;
        if (polled[1].revents) hear_nats();
        if (!polled[0].revents) continue;
        char line[128];
        ssize_t got = read(0, line, sizeof line - 1);
        if (got <= 0) return 0;
        line[got] = 0;
        int asked = symbols;
        if (sscanf(line, "rate %lf %d", &rate, &asked) >= 1) {
            among = asked < symbols ? asked : symbols;
            since = now_ns();
            sent = 0;
        } else if (sscanf(line, "round %d", &asked) == 1) {
            next_symbol = 0;
            publish(asked < symbols ? asked : symbols, asked);
        } else if (strncmp(line, "count", 5)) {
            die("unknown command: %s", line);
        }
        tell();
    }
}
