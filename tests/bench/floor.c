/*
 * The floor: what C needs to do the edge's work, and no more.
 *
 * It takes the same messages from NATS, cuts the same frames out of them and writes the
 * same bytes to the same clients; what one pass brings to a client leaves in one write,
 * as at the edge. It has no cache, no limits, no deadlines and no way to stop cleanly,
 * and it only completes handshakes of the load generator.
 */
#include "wire.h"

#include <sys/epoll.h>

enum { INPUT = 1 << 20, MAX_WAITING = 8 << 20 };

struct client {
    int fd;
    bool open, dirty, blocked;
    char input[4096];
    size_t input_size;
    char *output;
    size_t output_size, output_room;
    int *symbols, symbol_count;
};

struct listeners {
    struct client **clients;
    int count, room;
};

static struct listeners listeners[MAX_SYMBOLS];
static struct client **dirty;
static int dirty_count, dirty_room, poller;

static void leave(struct client *client) {
    for (int i = 0; i < client->symbol_count; i++) {
        struct listeners *own = &listeners[client->symbols[i]];
        for (int k = 0; k < own->count; k++)
            if (own->clients[k] == client) own->clients[k--] = own->clients[--own->count];
    }
    client->symbol_count = 0;
    close(client->fd);
    client->fd = -1; /* freed never: its turn in a pass may still come */
}

static void watch(struct client *client, int how, bool writable) {
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = client};
    epoll_ctl(poller, how, client->fd, &event);
}

static void flush(struct client *client) {
    client->dirty = false;
    if (client->fd < 0) return;
    ssize_t sent = send(client->fd, client->output, client->output_size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        leave(client);
        return;
    }
    if (sent > 0) {
        client->output_size -= (size_t)sent;
        memmove(client->output, client->output + sent, client->output_size);
    }
    bool blocked = client->output_size > 0;
    if (blocked != client->blocked) watch(client, EPOLL_CTL_MOD, blocked);
    client->blocked = blocked;
}

static void append(struct client *client, const char *bytes, size_t size) {
    size_t needed = client->output_size + size;
    if (needed > MAX_WAITING) {
        leave(client);
        return;
    }
    if (needed > client->output_room) {
        client->output_room = needed * 2;
        client->output = room(client->output, client->output_room);
    }
    memcpy(client->output + client->output_size, bytes, size);
    client->output_size = needed;
    if (client->dirty || client->blocked) return;
    client->dirty = true;
    if (dirty_count == dirty_room) dirty = room(dirty, sizeof *dirty * (size_t)(dirty_room = dirty_room * 2 + 64));
    dirty[dirty_count++] = client;
}

static void deliver(const struct nats_message *message) {
    static const char key[] = ",\"frame\":";
    char frame[4096];
    int symbol = symbol_number(message->subject_end - SYMBOL_SIZE, message->subject_end);
    const char *at = memmem(message->payload, message->size, key, sizeof key - 1);
    if (symbol < 0 || !at) return;
    at += sizeof key - 1;
    size_t size = (size_t)(message->payload + message->size - 1 - at);
    size_t header = ws_head(frame, WS_TEXT, size, false);
    memcpy(frame + header, at, size);
    struct listeners *own = &listeners[symbol];
    for (int i = own->count - 1; i >= 0; i--) append(own->clients[i], frame, header + size);
}

static void take_messages(int nats) {
    static char input[INPUT];
    static size_t kept;
    ssize_t got = recv(nats, input + kept, INPUT - kept, 0);
    if (got <= 0) die("NATS closed the connection");
    const char *at = input, *end = input + kept + got, *next;
    struct nats_message message;
    enum nats_kind kind;
    while (at < end && (kind = nats_read(at, end, &message, &next)) != NATS_INCOMPLETE) {
        if (kind == NATS_MESSAGE) deliver(&message);
        if (kind == NATS_PING) send_all(nats, "PONG\r\n", 6);
        at = next;
    }
    kept = (size_t)(end - at);
    memmove(input, at, kept);
    for (int i = 0; i < dirty_count; i++) flush(dirty[i]);
    dirty_count = 0;
}

static void subscribe(struct client *client, const char *text, const char *end) {
    while ((text = memchr(text, '"', (size_t)(end - text)))) {
        int symbol = symbol_number(++text, end);
        if (symbol < 0) continue;
        struct listeners *own = &listeners[symbol];
        if (own->count == own->room)
            own->clients = room(own->clients, sizeof *own->clients * (size_t)(own->room = own->room * 2 + 8));
        own->clients[own->count++] = client;
        client->symbols = room(client->symbols, sizeof *client->symbols * (size_t)(client->symbol_count + 1));
        client->symbols[client->symbol_count++] = symbol;
    }
}

static void hear(struct client *client) {
    ssize_t got = recv(client->fd, client->input + client->input_size, sizeof client->input - client->input_size, 0);
    if (got <= 0) {
        leave(client);
        return;
    }
    char *at = client->input, *end = at + client->input_size + got, *next;
    if (!client->open) {
        static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                     "Connection: Upgrade\r\nSec-WebSocket-Accept: " WS_ACCEPT "\r\n\r\n";
        char *head_end = memmem(at, (size_t)(end - at), "\r\n\r\n", 4);
        if (head_end) {
            send_all(client->fd, answer, sizeof answer - 1);
            client->open = true;
            at = head_end + 4;
        }
    }
    struct ws_frame frame;
    while (client->open && (next = ws_read(at, end, &frame))) {
        if (frame.opcode == WS_TEXT) subscribe(client, frame.payload, frame.payload + frame.size);
        at = next;
    }
    client->input_size = (size_t)(end - at);
    memmove(client->input, at, client->input_size);
}

static void welcome(int listener) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) return;
    set_nodelay(fd);
    set_nonblocking(fd);
    struct client *client = room(NULL, sizeof *client);
    memset(client, 0, sizeof *client);
    client->fd = fd;
    watch(client, EPOLL_CTL_ADD, false);
}

static int listen_anywhere(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1024) < 0) die("cannot listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **arguments) {
    if (count != 2) die("usage: floor NATS_PORT");
    static const char hello[] = NATS_CONNECT "SUB prices.> 1\r\n";
    int nats = connect_to(atoi(arguments[1]));
    send_all(nats, hello, sizeof hello - 1);
    poller = epoll_create1(0);
    int listener = listen_anywhere();
    struct epoll_event events[512];
    events[0] = (struct epoll_event){.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, events);
    events[0].data.ptr = &nats;
    epoll_ctl(poller, EPOLL_CTL_ADD, nats, events);
    for (;;) {
        int ready = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            void *what = events[i].data.ptr;
            struct client *client = what;
            if (what == &listener) welcome(listener);
            else if (what == &nats) take_messages(nats);
            else if (client->fd >= 0 && events[i].events & EPOLLOUT) flush(client);
            else if (client->fd >= 0) hear(client);
        }
    }
}
