/* transpose - a kernel that mostly communicates: a square matrix whose rows are divided among all ranks is
 * transposed again and again.
 *
 *   transpose [--log PREFIX] N STEPS
 *
 * N is the number of rows and of columns, a multiple of the number of ranks. In each step every rank sends a
 * part of its rows to every other (MPI_Alltoall), all agree on a sum (MPI_Allreduce), and mix it into their
 * words. It is done with integers: the digest at the end is the same with any number of ranks. Rank 0 prints
 *   transpose ready
 *   transpose digest 0123456789abcdef
 *   transpose ended in 12.345 s, slowest step 0.123 s
 * Exit status: 0, 2 for bad arguments.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "rank.h"

struct matrix {
  int rank, ranks;
  size_t n, rows;        /* in all; of this rank */
  uint64_t *at, *packed; /* rows x n */
};

/* Of what every word was mixed with, independent of who has it. */
static uint64_t mix(struct matrix *m, uint64_t step, uint64_t sum) {
  uint64_t own = 0;
  for (size_t row = 0; row < m->rows; row++) {
    for (size_t column = 0; column < m->n; column++) {
      uint64_t *word = &m->at[row * m->n + column];
      const size_t index = ((size_t)m->rank * m->rows + row) * m->n + column;
      *word = pattern(*word ^ sum, index, step);
      own += *word;
    }
  }
  return own;
}

/* Block b of `packed` is what rank b gets: its columns of this rank's rows, turned. */
static void transpose(struct matrix *m) {
  const size_t block = m->rows * m->rows;
  for (size_t b = 0; b < (size_t)m->ranks; b++) {
    for (size_t row = 0; row < m->rows; row++) {
      for (size_t column = 0; column < m->rows; column++) {
        m->packed[b * block + column * m->rows + row] = m->at[row * m->n + b * m->rows + column];
      }
    }
  }
  MPI_Alltoall(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, m->packed, (int)block, MPI_UINT64_T, MPI_COMM_WORLD);
  for (size_t b = 0; b < (size_t)m->ranks; b++) {
    for (size_t row = 0; row < m->rows; row++) {
      for (size_t column = 0; column < m->rows; column++) {
        m->at[row * m->n + b * m->rows + column] = m->packed[b * block + row * m->rows + column];
      }
    }
  }
}

static uint64_t sum_of_all(uint64_t own) {
  uint64_t all = 0;
  MPI_Allreduce(&own, &all, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  return all;
}

int main(int argc, char **argv) {
  static const struct option known[] = {{"log", 1, NULL, 'l'}, {NULL, 0, NULL, 0}};
  const char *log = NULL;
  struct matrix m = {0};
  int bad = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &m.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &m.ranks);
  for (int c; (c = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
    if (c == 'l') log = optarg;
    else bad = 1;
  }
  const long n = optind < argc ? atol(argv[optind]) : 0, steps = optind + 1 < argc ? atol(argv[optind + 1]) : 0;
  if (bad || n <= 0 || n > 65536 || n % m.ranks != 0 || steps <= 0) {
    fprintf(stderr, "usage: transpose [--log PREFIX] N STEPS (N a multiple of the %d ranks)\n", m.ranks);
    return 2;
  }
  if (log != NULL && redirect(log, m.rank) != 0) return perror(log), 1;
  m.n = (size_t)n;
  m.rows = m.n / (size_t)m.ranks;
  m.at = calloc(m.rows * m.n, sizeof *m.at);
  m.packed = calloc(m.rows * m.n, sizeof *m.packed);
  if (m.at == NULL || m.packed == NULL) return perror("transpose"), 1;
  uint64_t sum = sum_of_all(mix(&m, 0, 0));
  if (m.rank == 0) printf("transpose ready\n");

  const double start = now();
  double before = start, slowest = 0;
  for (long step = 1; step <= steps; step++) {
    transpose(&m);
    sum = sum_of_all(mix(&m, (uint64_t)step, sum));
    const double t = now();
    if (t - before > slowest) slowest = t - before;
    before = t;
  }
  if (m.rank == 0) {
    printf("transpose digest %016llx\ntranspose ended in %.3f s, slowest step %.3f s\n", (unsigned long long)sum,
           before - start, slowest);
  }
  MPI_Finalize();
  return 0;
}
