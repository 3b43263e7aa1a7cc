/* rank.h - what the programs of this directory share. */
#ifndef LIFEBOAT_BENCH_RANK_H
#define LIFEBOAT_BENCH_RANK_H

#include <netinet/in.h>
#include <stdint.h>

/* Seconds of CLOCK_REALTIME: the clock of the machine a rank is moved to. */
double now(void);

void pause_us(long us);

/* Output and errors go to the file PREFIX + rank, and input comes from /dev/null: a process that is to
 * be moved must not hold a file from outside of its container. 0, or -1 with errno. */
int redirect(const char *prefix, int rank);

/* The IPv4 address of one of this container's interfaces, port 0. 0, or -1 with errno. */
int own_address(const char *interface, struct sockaddr_in *out);

/* What belongs into a word: no two alike, nothing that compresses. */
static inline uint64_t pattern(uint64_t seed, uint64_t index, uint64_t version) {
  uint64_t x = seed + index * 0x9e3779b97f4a7c15u + version * 0xd1b54a32d192ed03u;
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 29);
}

#endif
