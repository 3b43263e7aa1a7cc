/* web - rank 0 is a web server, all others are its clients, with many connections each.
 *
 *   web [--interface NAME] [--log PREFIX] [--connections N] [--bytes N] [--rate N] REQUESTS
 *
 *   --interface NAME whose address the server listens on (default eth0)
 *   --connections N  of each client (default 16); each is kept and has one request at a time
 *   --bytes N        of the body of an answer (default 16384)
 *   --rate N         requests per second of each client at most (default: as fast as it goes)
 *   --log PREFIX     output and errors go to the file PREFIX + rank
 *
 * Every client asks REQUESTS times for a page whose text follows from its number, and compares it. A
 * connection that is lost is an error; it is made again. Each second a client prints how long no answer
 * came at all, and the longest that one was waited for; at the end rank 0 the sums:
 *   gap rank 1 312.4 ms at 1700000000.123 answer 330.1 ms requests 4711
 *   web requests 20000 errors 0 wrong 0
 *   web ended in 12.345 s
 * Times are CLOCK_REALTIME. Exit status: 0, 1 if there were errors or wrong answers, 2 for bad arguments.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <mpi.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rank.h"

enum { HEAD_MAX = 256, CONNECTIONS_MAX = 1000, POLL_MS = 20, RETRY_US = 50000 };
static const double REPORT_S = 1;

struct options {
  const char *interface, *log;
  long connections, bytes, requests;
  double rate; /* 0: no limit */
};

struct connection {
  int fd;
  char *buffer;    /* server: the answer; client: what has come of it, and what has to */
  size_t size, at; /* of an answer; what was sent of it, or has come */
  int waits;       /* client: for an answer */
  double asked;
};

static uint64_t word_of(uint64_t page, size_t i) { return pattern(page << 20, i, 0) | 0x2020202020202020u; }

/* Head and body of page N; returns their size, which is that of every page. */
static size_t write_page(char *to, uint64_t page, size_t bytes) {
  const int head = snprintf(to, HEAD_MAX, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n",
                            bytes);
  for (size_t i = 0; i * 8 < bytes; i++) {
    const uint64_t word = word_of(page, i);
    memcpy(to + head + i * 8, &word, bytes - i * 8 < 8 ? bytes - i * 8 : 8);
  }
  return (size_t)head + bytes;
}

static int again(void) { return errno == EAGAIN || errno == EINTR; }

static int make_ready(int fd) {
  const int on = 1;
  return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
         fcntl(fd, F_SETFL, O_NONBLOCK) != 0 ? -1 : 0;
}

/* ---- the server */

static int listen_on(const char *interface, struct sockaddr_in *address) {
  socklen_t size = sizeof *address;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0 || own_address(interface, address) != 0) return -1;
  if (bind(fd, (struct sockaddr *)address, sizeof *address) != 0 || listen(fd, CONNECTIONS_MAX) != 0) return -1;
  return getsockname(fd, (struct sockaddr *)address, &size) != 0 ? -1 : fd;
}

/* 0 while it is a connection. */
static int serve(struct connection *c, size_t bytes) {
  char request[HEAD_MAX];
  while (c->size == 0) {
    const ssize_t got = recv(c->fd, request, sizeof request - 1, 0);
    unsigned long long page = 0;
    if (got < 0 && again()) return 0;
    if (got <= 0) return -1;
    request[got] = '\0'; /* a request is below a segment, and answered before the next one: it comes whole */
    if (sscanf(request, "GET /%llu HTTP/1.1\r\n", &page) != 1) return -1;
    c->size = write_page(c->buffer, page, bytes);
    c->at = 0;
  }
  while (c->at < c->size) {
    const ssize_t done = send(c->fd, c->buffer + c->at, c->size - c->at, MSG_NOSIGNAL);
    if (done < 0) return again() ? 0 : -1;
    c->at += (size_t)done;
  }
  c->size = 0;
  return 0;
}

/* Until all clients have passed the barrier. */
static int run_server(int listener, const struct options *o) {
  struct connection *all = calloc(CONNECTIONS_MAX, sizeof *all);
  struct pollfd *polled = calloc(CONNECTIONS_MAX + 1, sizeof *polled);
  MPI_Request barrier;
  int count = 0, over = 0;
  if (all == NULL || polled == NULL) return -1;
  MPI_Ibarrier(MPI_COMM_WORLD, &barrier);
  while (!over) {
    polled[0] = (struct pollfd){listener, POLLIN, 0};
    for (int i = 0; i < count; i++) polled[i + 1] = (struct pollfd){all[i].fd, all[i].size > 0 ? POLLOUT : POLLIN, 0};
    if (poll(polled, (nfds_t)count + 1, POLL_MS) < 0 && errno != EINTR) return -1;
    for (int i = count - 1; i >= 0; i--) {
      if (polled[i + 1].revents == 0 || serve(&all[i], (size_t)o->bytes) == 0) continue;
      close(all[i].fd);
      free(all[i].buffer);
      all[i] = all[--count];
    }
    while (polled[0].revents != 0 && count < CONNECTIONS_MAX) {
      const int fd = accept(listener, NULL, NULL);
      if (fd < 0) break;
      char *buffer = malloc((size_t)o->bytes + HEAD_MAX);
      if (make_ready(fd) != 0 || buffer == NULL) return -1;
      all[count++] = (struct connection){.fd = fd, .buffer = buffer};
    }
    MPI_Test(&barrier, &over, MPI_STATUS_IGNORE);
  }
  return 0;
}

/* ---- a client */

struct client {
  const struct options *options;
  struct sockaddr_in server;
  int rank;
  uint64_t asked, answered, errors, wrong;
  double start, last_answer, longest, longest_at, longest_answer; /* since the last report */
};

/* Waits for it: nothing else is to be done without. */
static void connect_again(struct client *client, struct connection *c) {
  for (;; pause_us(RETRY_US)) {
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->waits = 0;
    if (c->fd >= 0 && connect(c->fd, (struct sockaddr *)&client->server, sizeof client->server) == 0 &&
        make_ready(c->fd) == 0) {
      return;
    }
    client->errors++;
    close(c->fd);
  }
}

static void lost(struct client *client, struct connection *c) {
  client->errors++;
  close(c->fd);
  if (c->waits) client->asked--;
  connect_again(client, c);
}

static void ask(struct client *client, struct connection *c) {
  char request[HEAD_MAX];
  const uint64_t page = (uint64_t)client->rank << 32 | client->asked++;
  c->at = 0;
  /* What has to come, behind the room for what comes. */
  c->size = write_page(c->buffer + c->size, page, (size_t)client->options->bytes);
  c->waits = 1;
  c->asked = now();
  const int size = snprintf(request, sizeof request, "GET /%llu HTTP/1.1\r\nHost: lifeboat\r\n\r\n",
                            (unsigned long long)page);
  /* One at a time: there is always room for it. */
  if (send(c->fd, request, (size_t)size, MSG_NOSIGNAL) != size) lost(client, c);
}

static void answered(struct client *client, struct connection *c) {
  const double t = now();
  client->wrong += memcmp(c->buffer, c->buffer + c->size, c->size) != 0;
  client->answered++;
  c->waits = 0;
  if (t - client->last_answer > client->longest) {
    client->longest = t - client->last_answer;
    client->longest_at = t;
  }
  if (t - c->asked > client->longest_answer) client->longest_answer = t - c->asked;
  client->last_answer = t;
}

static void receive(struct client *client, struct connection *c) {
  while (c->waits && c->at < c->size) {
    const ssize_t got = recv(c->fd, c->buffer + c->at, c->size - c->at, 0);
    if (got < 0 && again()) return;
    if (got <= 0) break;
    c->at += (size_t)got;
  }
  /* What comes without a question is its end. */
  if (c->waits && c->at == c->size) answered(client, c);
  else lost(client, c);
}

static int may_ask(const struct client *client) {
  if (client->asked >= (uint64_t)client->options->requests) return 0;
  return client->options->rate <= 0 || (double)client->asked <= (now() - client->start) * client->options->rate;
}

static int run_client(struct client *client) {
  const long count = client->options->connections;
  struct connection *all = calloc((size_t)count, sizeof *all);
  struct pollfd *polled = calloc((size_t)count, sizeof *polled);
  if (all == NULL || polled == NULL) return -1;
  for (long i = 0; i < count; i++) {
    all[i].buffer = malloc(2 * ((size_t)client->options->bytes + HEAD_MAX));
    if (all[i].buffer == NULL) return -1;
    all[i].size = write_page(all[i].buffer, 0, (size_t)client->options->bytes);
    connect_again(client, &all[i]);
  }
  client->start = client->last_answer = now();
  double report = client->start + REPORT_S;
  while (client->answered < (uint64_t)client->options->requests) {
    for (long i = 0; i < count; i++) {
      if (!all[i].waits && may_ask(client)) ask(client, &all[i]);
      polled[i] = (struct pollfd){all[i].fd, POLLIN, 0};
    }
    if (poll(polled, (nfds_t)count, client->options->rate > 0 ? 1 : POLL_MS) < 0 && errno != EINTR) return -1;
    for (long i = 0; i < count; i++) {
      if (polled[i].revents != 0) receive(client, &all[i]);
    }
    const double t = now();
    if (t < report) continue;
    printf("gap rank %d %.1f ms at %.3f answer %.1f ms requests %llu\n", client->rank, client->longest * 1000,
           client->longest_at, client->longest_answer * 1000, (unsigned long long)client->answered);
    client->longest = client->longest_answer = 0;
    report = t + REPORT_S;
  }
  for (long i = 0; i < count; i++) close(all[i].fd);
  MPI_Request barrier; /* the server's is not blocking: they have to be of one kind */
  MPI_Ibarrier(MPI_COMM_WORLD, &barrier);
  MPI_Wait(&barrier, MPI_STATUS_IGNORE);
  return 0;
}

/* MPI connects two ranks when they first have something to say: now, so that no connection of its own is made later. */
static void meet_all(int rank, int ranks) {
  for (int i = 1; i < ranks; i++) {
    char out = 0, in = 0;
    MPI_Sendrecv(&out, 1, MPI_BYTE, (rank + i) % ranks, 0, &in, 1, MPI_BYTE, (rank + ranks - i) % ranks, 0,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

static int usage(void) {
  fprintf(stderr, "usage: web [--interface NAME] [--log PREFIX] [--connections N] [--bytes N] [--rate N] REQUESTS\n"
                  "       two ranks or more, %d connections at most\n", CONNECTIONS_MAX);
  return 2;
}

static int parse(int argc, char **argv, struct options *o) {
  static const struct option known[] = {{"interface", 1, NULL, 'i'}, {"log", 1, NULL, 'l'},
                                        {"connections", 1, NULL, 'c'}, {"bytes", 1, NULL, 'b'},
                                        {"rate", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};
  *o = (struct options){.interface = "eth0", .connections = 16, .bytes = 16384};
  for (int c; (c = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
    switch (c) {
      case 'i': o->interface = optarg; break;
      case 'l': o->log = optarg; break;
      case 'c': o->connections = atol(optarg); break;
      case 'b': o->bytes = atol(optarg); break;
      case 'r': o->rate = atof(optarg); break;
      default: return -1;
    }
  }
  o->requests = optind < argc ? atol(argv[optind]) : 0;
  return o->requests > 0 && o->connections > 0 && o->bytes > 0 && o->bytes < 1 << 28 ? 0 : -1;
}

int main(int argc, char **argv) {
  struct options o;
  struct sockaddr_in address = {0};
  int rank = 0, ranks = 0, listener = -1;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (parse(argc, argv, &o) != 0 || ranks < 2 || o.connections * (ranks - 1) > CONNECTIONS_MAX) return usage();
  if (o.log != NULL && redirect(o.log, rank) != 0) return perror(o.log), 1;
  if (rank == 0 && (listener = listen_on(o.interface, &address)) < 0) return perror("web: listen"), 1;
  MPI_Bcast(&address, sizeof address, MPI_BYTE, 0, MPI_COMM_WORLD);
  meet_all(rank, ranks);
  if (rank == 0) printf("web ready\n");

  const double start = now();
  struct client client = {.options = &o, .server = address, .rank = rank};
  if ((rank == 0 ? run_server(listener, &o) : run_client(&client)) != 0) return perror("web"), 1;
  const double took = now() - start;
  const uint64_t own[3] = {client.answered, client.errors, client.wrong};
  uint64_t all[3] = {0};
  MPI_Allreduce(own, all, 3, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) {
    printf("web requests %llu errors %llu wrong %llu\nweb ended in %.3f s\n", (unsigned long long)all[0],
           (unsigned long long)all[1], (unsigned long long)all[2], took);
  }
  MPI_Finalize();
  return all[1] + all[2] == 0 ? 0 : 1;
}
