/*
 * What the C programs of the benchmark share: clock, sockets, WebSocket headers.
 *
 * Everything runs on this machine, so the clock of one process can be compared with
 * that of another. Programs end with a message on the first thing that is wrong.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The symbols of the benchmark: a letter and five digits, so they are all alike. */
#define SYMBOL_SIZE 6
#define SYMBOL_LETTER 'B'
#define MAX_SYMBOLS 100000

__attribute__((noreturn, format(printf, 1, 2)))
static inline void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void *room(void *old, size_t size) {
    void *memory = realloc(old, size);
    if (!memory) die("out of memory");
    return memory;
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline void set_nodelay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline int connect_to(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("cannot connect to port %d: %s", port, strerror(errno));
    set_nodelay(fd);
    return fd;
}

static inline void set_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static inline void send_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (sent < 0) die("send: %s", strerror(errno));
        data += sent;
        size -= (size_t)sent;
    }
}

/* Write *number* with exactly *width* digits. */
static inline void put_digits(char *at, uint64_t number, int width) {
    while (width--) {
        at[width] = (char)('0' + number % 10);
        number /= 10;
    }
}

static inline uint64_t take_digits(const char *at, const char *end) {
    uint64_t number = 0;
    while (at < end && (unsigned)(*at - '0') < 10) number = number * 10 + (uint64_t)(*at++ - '0');
    return number;
}

/* Return the number of the symbol whose name is at *name*, or -1. */
static inline int symbol_number(const char *name, const char *end) {
    if (end - name < SYMBOL_SIZE || *name != SYMBOL_LETTER) return -1;
    int number = 0;
    for (int i = 1; i < SYMBOL_SIZE; i++) {
        if ((unsigned)(name[i] - '0') > 9) return -1;
        number = number * 10 + (name[i] - '0');
    }
    return number;
}

static inline void put_symbol(char *at, int number) {
    *at = SYMBOL_LETTER;
    put_digits(at + 1, (uint64_t)number, SYMBOL_SIZE - 1);
}

/* A message of NATS's protocol: `MSG subject sid [reply] size`, then the payload. */
struct nats_message {
    const char *subject, *subject_end;
    const char *payload;
    size_t size;
};

enum nats_kind { NATS_INCOMPLETE, NATS_MESSAGE, NATS_PING, NATS_OTHER };

/* Read one operation at *at*; *next* is where the one after it begins. */
static inline enum nats_kind nats_read(const char *at, const char *end, struct nats_message *message,
                                       const char **next) {
    const char *line_end = memchr(at, '\n', (size_t)(end - at));
    if (!line_end) return NATS_INCOMPLETE;
    *next = line_end + 1;
    if (!strncmp(at, "PING", 4)) return NATS_PING;
    if (!strncmp(at, "-ERR", 4)) die("NATS says: %.*s", (int)(line_end - at), at);
    if (strncmp(at, "MSG ", 4)) return NATS_OTHER;
    const char *number = line_end - 1;
    while (number[-1] != ' ') number--;
    message->subject = at + 4;
    message->subject_end = memchr(message->subject, ' ', (size_t)(line_end - message->subject));
    message->payload = line_end + 1;
    message->size = take_digits(number, line_end);
    *next = message->payload + message->size + 2;
    return *next > end ? NATS_INCOMPLETE : NATS_MESSAGE;
}

#define NATS_CONNECT "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"0\"}\r\n"

/* WebSocket, RFC 6455. The key is the one of its section 1.3, and so is the answer. */
#define WS_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WS_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

struct ws_frame {
    int opcode;
    bool final, masked;
    char *payload;
    size_t size;
};

/* Read one frame at *at*, unmasking it; return where the next one begins, or NULL. */
static inline char *ws_read(char *at, const char *end, struct ws_frame *frame) {
    if (end - at < 2) return NULL;
    const unsigned char *head = (const unsigned char *)at;
    size_t size = head[1] & 0x7f, header = 2;
    if (size == 126) {
        if (end - at < 4) return NULL;
        size = (size_t)head[2] << 8 | head[3];
        header = 4;
    } else if (size == 127) {
        if (end - at < 10) return NULL;
        size = 0;
        for (int i = 2; i < 10; i++) size = size << 8 | head[i];
        header = 10;
    }
    frame->final = head[0] & 0x80;
    frame->opcode = head[0] & 0x0f;
    frame->masked = head[1] & 0x80;
    if (frame->masked) header += 4;
    if ((size_t)(end - at) < header + size) return NULL;
    frame->payload = at + header;
    frame->size = size;
    if (frame->masked) {
        const char *key = frame->payload - 4;
        for (size_t i = 0; i < size; i++) frame->payload[i] ^= key[i & 3];
    }
    return frame->payload + size;
}

/* Write a frame's header to *at*, at most 14 bytes; clients mask, here with zeros. */
static inline size_t ws_head(char *at, int opcode, size_t size, bool mask) {
    size_t header = 2;
    at[0] = (char)(0x80 | opcode);
    if (size < 126) {
        at[1] = (char)size;
    } else if (size < 65536) {
        at[1] = 126;
        at[2] = (char)(size >> 8);
        at[3] = (char)size;
        header = 4;
    } else {
        at[1] = 127;
        for (int i = 0; i < 8; i++) at[2 + i] = (char)((uint64_t)size >> (56 - 8 * i));
        header = 10;
    }
    if (mask) {
        at[1] = (char)(at[1] | 0x80);
        memset(at + header, 0, 4);
        header += 4;
    }
    return header;
}

#endif
