/* Holds back what the kernel answers and tells on netlink, for one program: preloaded, it stands between the program and the
 * kernel (ld.so(8), LD_PRELOAD).
 *
 * A netlink socket that the program opens becomes one end of a pair of local sockets; a thread of its own, one each socket,
 * passes messages on between the other end and the real socket. What the kernel sends is held back for as many milliseconds
 * as the file $SLOW_NETLINK/delay says, in order; what waits is passed on at once when the file says less. A byte is
 * appended to $SLOW_NETLINK/held for each message that was held back for a second or longer.
 *
 * Does not: hold back what the program sends, or lose anything.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FDS 65536
#define LONGEST (1 << 20)
#define LOOK_MS 20
#define HELD_MS 1000

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct message {
    struct message *next;
    long long came;
    size_t length;
    char bytes[];
};

struct relay {
    int real;
    int end;
};

/* The real socket of each descriptor that stands for one, plus one. */
static atomic_int real_of[FDS];

static int real(int fd) {
    return fd >= 0 && fd < FDS ? atomic_load(&real_of[fd]) - 1 : -1;
}

static long long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int open_file(const char *name, int flags) {
    char path[4096];
    const char *dir = getenv("SLOW_NETLINK");
    if (!dir) return -1;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return open(path, flags | O_CLOEXEC, 0644);
}

static long long delay_ms(void) {
    static atomic_llong delay, looked;
    if (now_ms() - atomic_load(&looked) < LOOK_MS) return atomic_load(&delay);
    atomic_store(&looked, now_ms());
    char text[32] = "";
    int file = open_file("delay", O_RDONLY);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) > 0) atomic_store(&delay, atoll(text));
        REAL(close)(file);
    }
    return atomic_load(&delay);
}

static void count_held(void) {
    int file = open_file("held", O_WRONLY | O_APPEND | O_CREAT);
    if (file < 0) return;
    if (write(file, ".", 1) != 1) perror("slow_netlink: count");
    REAL(close)(file);
}

static struct message *receive(int fd) {
    static _Thread_local char bytes[LONGEST];
    ssize_t length = REAL(recv)(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (length < 0) return NULL;
    struct message *message = malloc(sizeof *message + length);
    if (!message) abort();
    *message = (struct message){ .came = now_ms(), .length = length };
    memcpy(message->bytes, bytes, length);
    return message;
}

static void *pass_on(void *argument) {
    struct relay relay = *(struct relay *)argument;
    struct message *first = NULL, **last = &first;
    free(argument);
    for (;;) {
        struct pollfd both[2] = { { .fd = relay.end, .events = POLLIN }, { .fd = relay.real, .events = POLLIN } };
        REAL(poll)(both, 2, first ? LOOK_MS : -1);
        if (both[0].revents) {
            struct message *out = receive(relay.end);
            /* A message is never empty: the program closed its end. */
            int ended = out ? out->length == 0 : errno != EAGAIN && errno != EINTR;
            if (ended) break;
            if (out) REAL(send)(relay.real, out->bytes, out->length, MSG_NOSIGNAL);
            free(out);
        }
        struct message *in = both[1].revents ? receive(relay.real) : NULL;
        if (in) {
            *last = in;
            last = &in->next;
        }
        long long held;
        while (first && (held = now_ms() - first->came) >= delay_ms()) {
            if (REAL(send)(relay.end, first->bytes, first->length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN) break;
            if (held >= HELD_MS) count_held();
            struct message *done = first;
            first = first->next;
            if (!first) last = &first;
            free(done);
        }
    }
    while (first) {
        struct message *lost = first;
        first = first->next;
        free(lost);
    }
    REAL(close)(relay.end);
    REAL(close)(relay.real);
    return NULL;
}

int socket(int domain, int type, int protocol) {
    int ends[2], bytes = 8 << 20;
    int opened = REAL(socket)(domain, type, protocol);
    if (domain != AF_NETLINK || opened < 0) return opened;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | (type & (SOCK_NONBLOCK | SOCK_CLOEXEC)), 0, ends) < 0 || ends[0] >= FDS) abort();
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    REAL(setsockopt)(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
    struct relay *relay = malloc(sizeof *relay);
    if (!relay) abort();
    *relay = (struct relay){ .real = opened, .end = ends[1] };
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, pass_on, relay)) abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
    atomic_store(&real_of[ends[0]], opened + 1);
    return ends[0];
}

int close(int fd) {
    if (real(fd) >= 0) atomic_store(&real_of[fd], 0);
    return REAL(close)(fd);
}

static int acts_on(int fd) {
    return real(fd) >= 0 ? real(fd) : fd;
}

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    return REAL(bind)(acts_on(fd), address, length);
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    return REAL(connect)(acts_on(fd), address, length);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *length) {
    return REAL(getsockname)(acts_on(fd), address, length);
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
    return REAL(setsockopt)(acts_on(fd), level, option, value, length);
}

int getsockopt(int fd, int level, int option, void *value, socklen_t *length) {
    return REAL(getsockopt)(acts_on(fd), level, option, value, length);
}

/* Everything comes from the kernel, whose number is zero. */
static socklen_t from_kernel(void *address, socklen_t room) {
    struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
    memcpy(address, &kernel, room < sizeof kernel ? room : sizeof kernel);
    return sizeof kernel;
}

ssize_t recvfrom(int fd, void *bytes, size_t length, int flags, struct sockaddr *address, socklen_t *room) {
    if (real(fd) < 0 || !address) return REAL(recvfrom)(fd, bytes, length, flags, address, room);
    ssize_t got = REAL(recvfrom)(fd, bytes, length, flags, NULL, NULL);
    if (got >= 0) *room = from_kernel(address, *room);
    return got;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    socklen_t room = message->msg_namelen;
    ssize_t got = REAL(recvmsg)(fd, message, flags);
    if (real(fd) >= 0 && got >= 0 && message->msg_name) message->msg_namelen = from_kernel(message->msg_name, room);
    return got;
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *address, socklen_t size) {
    if (real(fd) >= 0) return REAL(sendto)(fd, bytes, length, flags, NULL, 0);
    return REAL(sendto)(fd, bytes, length, flags, address, size);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    struct msghdr bare = *message;
    if (real(fd) < 0) return REAL(sendmsg)(fd, message, flags);
    bare.msg_name = NULL;
    bare.msg_namelen = 0;
    return REAL(sendmsg)(fd, &bare, flags);
}
