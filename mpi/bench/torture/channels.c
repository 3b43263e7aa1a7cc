/* channels.c - TCP to itself and to the other container, a pipe, an eventfd, a timerfd.
 *
 * Whoever sends numbers its messages; nothing may be lost, doubled or damaged, and no connection end
 * before the program does.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { PAYLOAD_MAX = 64 * 1024, LOOPBACK_PORT = 7700, PEER_PORT = 7701 };
static const char address_file[] = "/work/torture.address";

struct message {
  uint64_t number;
  uint64_t bytes; /* of the payload, a multiple of 8; 0: the end */
  uint64_t seed;  /* of the payload */
};

static bool transfer(int socket, void *data, size_t size, bool out) {
  for (size_t done = 0; done < size;) {
    char *at = (char *)data + done;
    const ssize_t n = out ? send(socket, at, size - done, MSG_NOSIGNAL) : recv(socket, at, size - done, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      wrong("a connection %s: %s", out ? "takes nothing" : "has ended", n < 0 ? strerror(errno) : "closed");
      return false;
    }
    done += (size_t)n;
  }
  return true;
}

static bool receive(int socket, struct message *m, uint64_t *payload, uint64_t number) {
  if (!transfer(socket, m, sizeof *m, false)) return false;
  if (m->number != number || m->bytes > PAYLOAD_MAX) {
    wrong("message %lu of %lu bytes came where message %lu was due", m->number, m->bytes, number);
    return false;
  }
  if (!transfer(socket, payload, m->bytes, false)) return false;
  const uint64_t at = first_wrong_word(payload, m->bytes / 8, m->seed);
  if (at != m->bytes / 8) wrong("message %lu: word %lu of %lu", number, at, m->bytes / 8);
  return true;
}

/* Sends messages and wants each of them back. */
static void talk(int socket, atomic_ulong *ticks) {
  static _Thread_local uint64_t payload[PAYLOAD_MAX / 8], back[PAYLOAD_MAX / 8];
  struct message answer;
  for (uint64_t number = 1;; number++) {
    struct message m = {number, 8 + 8 * random_below(PAYLOAD_MAX / 8), random_below(1UL << 40)};
    if (all->stopping) m.bytes = 0;
    fill_words(payload, m.bytes / 8, m.seed);
    if (!transfer(socket, &m, sizeof m, true) || !transfer(socket, payload, m.bytes, true)) return;
    if (m.bytes == 0 || !receive(socket, &answer, back, number)) return;
    if (answer.seed != m.seed || answer.bytes != m.bytes) wrong("message %lu came back as another", number);
    atomic_fetch_add(ticks, 1);
    sleep_us((long)random_below(5000));
  }
}

static void echo(int socket, atomic_ulong *ticks) {
  static _Thread_local uint64_t payload[PAYLOAD_MAX / 8];
  struct message m;
  for (uint64_t number = 1; receive(socket, &m, payload, number) && m.bytes > 0; number++) {
    if (!transfer(socket, &m, sizeof m, true) || !transfer(socket, payload, m.bytes, true)) return;
    if (ticks != NULL) atomic_fetch_add(ticks, 1);
  }
}

static int listen_at(struct in_addr address, int port) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = address};
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1) != 0) {
    perror("torture: listen");
    exit(2);
  }
  return listener;
}

static int connect_to(struct in_addr address, int port) {
  const int socket_ = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = address};
  if (connect(socket_, (struct sockaddr *)&to, sizeof to) != 0) {
    perror("torture: connect");
    exit(2);
  }
  return socket_;
}

static void *echo_main(void *listener) {
  const int connection = accept((int)(intptr_t)listener, NULL, NULL);
  echo(connection, NULL);
  close(connection);
  return NULL;
}

void *loopback_main(void *ticks) {
  const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
  const int listener = listen_at(loopback, LOOPBACK_PORT + my_rank * 10);
  pthread_t echoing;
  pthread_create(&echoing, NULL, echo_main, (void *)(intptr_t)listener);
  const int connection = connect_to(loopback, LOOPBACK_PORT + my_rank * 10);
  talk(connection, ticks);
  close(connection);
  pthread_join(echoing, NULL);
  return NULL;
}

static bool own_address(struct in_addr *address) {
  struct ifaddrs *list, *at;
  bool found = false;
  if (getifaddrs(&list) != 0) return false;
  for (at = list; at != NULL && !found; at = at->ifa_next) {
    if (at->ifa_addr == NULL || at->ifa_addr->sa_family != AF_INET || at->ifa_flags & IFF_LOOPBACK) continue;
    *address = ((struct sockaddr_in *)(void *)at->ifa_addr)->sin_addr;
    found = true;
  }
  freeifaddrs(list);
  return found;
}

/* Rank 1 writes its address into the common directory and echoes; rank 0 connects and talks. */
void *peer_main(void *ticks) {
  struct in_addr address;
  char text[INET_ADDRSTRLEN] = "";
  if (my_rank == 1) {
    if (!own_address(&address)) {
      wrong("no address");
      return NULL;
    }
    const int listener = listen_at(address, PEER_PORT);
    FILE *file = fopen("/work/torture.new", "w");
    if (file == NULL) exit(2);
    fputs(inet_ntop(AF_INET, &address, text, sizeof text), file);
    fclose(file);
    if (rename("/work/torture.new", address_file) != 0) exit(2);
    const int connection = accept(listener, NULL, NULL);
    echo(connection, ticks);
    close(connection);
    return NULL;
  }
  for (;; sleep_us(20000)) {
    FILE *file = fopen(address_file, "r");
    if (file == NULL) continue;
    const bool got = fgets(text, sizeof text, file) != NULL;
    fclose(file);
    if (got && inet_pton(AF_INET, text, &address) == 1) break;
  }
  const int connection = connect_to(address, PEER_PORT);
  talk(connection, ticks);
  close(connection);
  return NULL;
}

/* ---- between threads */

static int pipe_ends[2], event_fd;
static atomic_ulong events_sent;

static void *pipe_reader_main(void *nothing) {
  uint64_t words[4];
  for (uint64_t number = 1;; number++) {
    for (size_t got = 0; got < sizeof words;) {
      const ssize_t n = read(pipe_ends[0], (char *)words + got, sizeof words - got);
      if (n <= 0) {
        wrong("the pipe has ended");
        return nothing;
      }
      got += (size_t)n;
    }
    if (words[0] == 0) return nothing;
    if (words[0] != number || words[3] != mix(words[1], words[2])) {
      wrong("the pipe gave message %lu where %lu was due", words[0], number);
    }
    /* At times it lets the pipe run full. */
    if (random_below(200) == 0) sleep_us((long)random_below(400000));
  }
}

void *pipe_main(void *ticks) {
  pthread_t reader;
  if (pipe(pipe_ends) != 0) exit(2);
  pthread_create(&reader, NULL, pipe_reader_main, NULL);
  for (uint64_t number = 1;; number++) {
    uint64_t words[4] = {all->stopping ? 0 : number, random_below(1UL << 40), number * 7, 0};
    words[3] = mix(words[1], words[2]);
    if (write(pipe_ends[1], words, sizeof words) != sizeof words) wrong("cannot write into the pipe");
    if (words[0] == 0) break;
    atomic_fetch_add((atomic_ulong *)ticks, 1);
    if (random_below(2) == 0) sleep_us((long)random_below(2000));
  }
  pthread_join(reader, NULL);
  return NULL;
}

static void *event_sender_main(void *nothing) {
  while (!all->stopping) {
    const uint64_t n = 1 + random_below(5);
    atomic_fetch_add(&events_sent, n);
    if (write(event_fd, &n, sizeof n) != sizeof n) wrong("cannot write to the eventfd");
    sleep_us((long)random_below(8000));
  }
  return nothing;
}

/* Counted in rounds: a freeze, however long, is one of them, and begins the timer anew. */
static void wait_for_timer(int timer) {
  enum { LIMIT_MS = 3000, ROUND_MS = 100 };
  struct pollfd wanted = {timer, POLLIN, 0};
  for (int rounds = 0; !all->stopping;) {
    const int ready = poll(&wanted, 1, ROUND_MS);
    if (ready == 1) return;
    if (ready == 0 && ++rounds > LIMIT_MS / ROUND_MS) {
      wrong("the timer does not fire in %d ms", LIMIT_MS);
      return;
    }
  }
}

/* The timer wakes it; then it takes what the eventfd has counted. */
void *events_main(void *ticks) {
  const struct itimerspec period = {{0, 10000000}, {0, 10000000}};
  const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  event_fd = eventfd(0, EFD_NONBLOCK);
  if (timer < 0 || event_fd < 0 || timerfd_settime(timer, 0, &period, NULL) != 0) exit(2);
  pthread_t sender;
  pthread_create(&sender, NULL, event_sender_main, NULL);
  uint64_t received = 0, n;
  while (!all->stopping) {
    wait_for_timer(timer);
    if (read(timer, &n, sizeof n) != sizeof n && !all->stopping) wrong("the timer gave nothing");
    if (read(event_fd, &n, sizeof n) == sizeof n) received += n;
    if (received > events_sent) wrong("the eventfd gave %lu of %lu", received, (unsigned long)events_sent);
    atomic_fetch_add((atomic_ulong *)ticks, 1);
  }
  pthread_join(sender, NULL);
  if (read(event_fd, &n, sizeof n) == sizeof n) received += n;
  if (received != events_sent) wrong("the eventfd gave %lu of %lu", received, (unsigned long)events_sent);
  return NULL;
}
