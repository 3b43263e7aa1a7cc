/* exchange.h - how the ranks of `memory` pass messages to their neighbours in a ring: by MPI, or, for
 * two processes that no MPI launcher has started, over one TCP connection of their own.
 *
 * Waiting is polling with a sleep in between, as MPI does it and yet friendly to many "nodes" that
 * share one machine; `looked` is called at every poll, so that the caller sees whether it ran. */
#ifndef LIFEBOAT_BENCH_EXCHANGE_H
#define LIFEBOAT_BENCH_EXCHANGE_H

#include <stdint.h>

struct message {
  uint64_t round;
  uint64_t last;  /* the round to end with; 0: not known yet */
  uint64_t total; /* of sender's rank and round, checked by the receiver */
};

struct ring {
  int rank, ranks;
  int socket; /* -1: MPI */
};

/* Joins the two processes that were given the same directory: rank 1 listens on its interface's
 * address and writes it to DIR/address, rank 0 connects there. 0, or -1 with errno. */
int ring_over_tcp(struct ring *ring, const char *directory, const char *interface);
void ring_over_mpi(struct ring *ring, int *argc, char ***argv);

/* Sends to the right, receives from the left. 0, or -1 when the connection is lost. */
int exchange(const struct ring *ring, struct message *out, struct message *in,
             void (*looked)(void *), void *context);

/* The sum over all ranks; over TCP that of this rank and its peer. */
uint64_t sum_over_ranks(const struct ring *ring, uint64_t value);
void ring_end(const struct ring *ring);

#endif
