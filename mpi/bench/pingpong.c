/* pingpong - pairs of ranks (0 and 1, 2 and 3, ...) that measure what is between them, all the time.
 *
 *   pingpong [--log PREFIX] [--bytes N] SECONDS [FILE]
 *
 *   --bytes N     of a large message (default 1 MiB)
 *   --log PREFIX  output and errors go to the file PREFIX + rank
 *
 * In turn, for 50 ms each, small messages of 16 bytes and large ones go to the odd rank and back, until
 * SECONDS have passed or FILE exists. After each such turn the even rank prints the mean latency (half
 * of a round trip), the bandwidth, and its longest round trip, and when each of them was measured:
 *   latency rank 0 23.4 us bandwidth 812.3 MB/s at 1700000000.123
 *   gap rank 0 312.4 ms at 1700000000.101
 * Times are CLOCK_REALTIME. Every message says whose it is and the how manieth, and is different
 * throughout; what arrives is compared with what has to. At the end rank 0 prints "pingpong ok" or
 * "pingpong WRONG". Exit status: 0, 1 if a message was wrong, 2 for bad arguments.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "rank.h"

enum { SMALL_WORDS = 2, STEP = 61 /* of the words that are compared: all in 61 messages */ };
enum { GO_ON = 1, LAST = 2 }; /* tags */
static const double TURN_S = 0.05;

struct pair {
  int rank, peer;
  uint64_t count, wrong; /* messages so far; words */
  uint64_t *words;
  double longest_s, longest_at;
};

static void fill(struct pair *p, uint64_t seed, size_t words) {
  for (size_t i = p->count % STEP; i < words; i += STEP) p->words[i] = pattern(seed, i, p->count);
  p->words[0] = p->count;
}

static void verify(struct pair *p, uint64_t seed, size_t words) {
  for (size_t i = p->count % STEP; i < words; i += STEP) {
    p->wrong += i > 0 && p->words[i] != pattern(seed, i, p->count);
  }
  p->wrong += p->words[0] != p->count;
}

/* One there and back; how long it took. */
static double round_trip(struct pair *p, size_t words, int tag) {
  const int bytes = (int)(words * sizeof *p->words);
  fill(p, (uint64_t)p->rank, words);
  const double start = now();
  MPI_Send(p->words, bytes, MPI_BYTE, p->peer, tag, MPI_COMM_WORLD);
  MPI_Recv(p->words, bytes, MPI_BYTE, p->peer, MPI_ANY_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  const double end = now();
  verify(p, (uint64_t)p->peer, words);
  p->count++;
  if (end - start > p->longest_s) {
    p->longest_s = end - start;
    p->longest_at = end;
  }
  return end - start;
}

/* The mean round trip of TURN_S. */
static double turn(struct pair *p, size_t words) {
  const double end = now() + TURN_S;
  double sum = 0;
  int done = 0;
  for (; done == 0 || now() < end; done++) sum += round_trip(p, words, GO_ON);
  return sum / done;
}

static void lead(struct pair *p, size_t words, double seconds, const char *stop) {
  const double end = now() + seconds;
  while (now() < end && (stop == NULL || access(stop, F_OK) != 0)) {
    p->longest_s = 0;
    const double small = turn(p, SMALL_WORDS), large = turn(p, words);
    printf("latency rank %d %.1f us bandwidth %.1f MB/s at %.3f\n", p->rank, small / 2 * 1e6,
           2 * (double)(words * sizeof *p->words) / large / 1e6, now());
    printf("gap rank %d %.1f ms at %.3f\n", p->rank, p->longest_s * 1000, p->longest_at);
  }
  round_trip(p, SMALL_WORDS, LAST);
}

static void follow(struct pair *p, size_t words) {
  for (int tag = GO_ON; tag != LAST; p->count++) {
    MPI_Status status;
    int bytes = 0;
    MPI_Recv(p->words, (int)(words * sizeof *p->words), MPI_BYTE, p->peer, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    tag = status.MPI_TAG;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    const size_t got = (size_t)bytes / sizeof *p->words;
    verify(p, (uint64_t)p->peer, got);
    fill(p, (uint64_t)p->rank, got);
    MPI_Send(p->words, bytes, MPI_BYTE, p->peer, tag, MPI_COMM_WORLD);
  }
}

static int usage(void) {
  fprintf(stderr, "usage: pingpong [--log PREFIX] [--bytes N] SECONDS [FILE]\n");
  return 2;
}

int main(int argc, char **argv) {
  static const struct option known[] = {{"log", 1, NULL, 'l'}, {"bytes", 1, NULL, 'b'}, {NULL, 0, NULL, 0}};
  const char *log = NULL;
  long bytes = 1 << 20;
  struct pair p = {0};
  int ranks = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &p.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  for (int c; (c = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
    switch (c) {
      case 'l': log = optarg; break;
      case 'b': bytes = atol(optarg); break;
      default: return usage();
    }
  }
  const double seconds = optind < argc ? atof(argv[optind]) : 0;
  if (seconds <= 0 || bytes < 16 || bytes > 1 << 30 || ranks % 2 != 0) return usage();
  if (log != NULL && redirect(log, p.rank) != 0) return perror(log), 1;
  const size_t words = (size_t)bytes / sizeof *p.words;
  p.words = calloc(words, sizeof *p.words);
  p.peer = p.rank ^ 1;
  MPI_Barrier(MPI_COMM_WORLD);
  if (p.rank == 0) printf("pingpong ready\n");
  if (p.rank % 2 == 0) {
    lead(&p, words, seconds, optind + 1 < argc ? argv[optind + 1] : NULL);
  } else {
    follow(&p, words);
  }
  if (p.wrong > 0) printf("rank %d: %llu wrong words\n", p.rank, (unsigned long long)p.wrong);
  uint64_t all = 0;
  MPI_Allreduce(&p.wrong, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (p.rank == 0) printf(all == 0 ? "pingpong ok\n" : "pingpong WRONG\n");
  MPI_Finalize();
  return all == 0 ? 0 : 1;
}
