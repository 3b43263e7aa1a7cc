/* memory - MPI ranks that hold a known amount of memory and notice when they stand still.
 *
 *   memory MB[,MB...] [SECONDS [FILE]]
 *
 * Rank i allocates the i-th amount (the last one holds for all further ranks; 1 MB = 10^6 bytes),
 * fills it with a pattern and then, until SECONDS (default 60) have passed or FILE exists:
 *   - verifies and rewrites some pages, about every millisecond;
 *   - exchanges a number with its neighbours in a ring of all ranks, and checks it.
 * Prints, when all ranks are ready, "memory ready"; each second, per rank, the longest gap between
 * two exchanges in that second and when it ended (CLOCK_REALTIME, so that the clock of the machine
 * a rank is moved to counts):
 *   gap rank 1 312.4 ms at 1700000000.123
 * At the end each rank verifies all it has, and rank 0 prints "memory ok" or "memory WRONG".
 * The exit status is 0 if all was right, 1 if not, 2 for bad arguments.
 *
 * A page knows nothing of its own age: what must be in it follows from the number of pages that
 * were rewritten so far, so a page that was restored as it had been earlier is found, too.
 *
 * It waits for messages as MPI_Sendrecv does, but sleeps in between: ranks that spin would take the
 * processors from the migration when many "nodes" share one machine.
 */
#define _GNU_SOURCE
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, PAGES_PER_ROUND = 16 };
enum { PAUSE_US = 900, POLL_US = 50, REPORT_S = 1 };

struct memory {
  uint64_t *words;
  uint64_t pages;
  uint64_t rewritten; /* pages, since the start; page p is rewritten in turn */
  uint64_t wrong;     /* words */
  uint64_t seed;
};

struct message {
  uint64_t round;
  uint64_t last;  /* the round to end with; 0: not known yet */
  uint64_t total; /* of sender's rank and round, checked by the receiver */
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pause_us(long us) {
  struct timespec t = {0, us * 1000};
  nanosleep(&t, NULL);
}

/* What belongs into a word: no two alike, no page that compresses. */
static uint64_t pattern(uint64_t seed, uint64_t index, uint64_t version) {
  uint64_t x = seed + index * 0x9e3779b97f4a7c15u + version * 0xd1b54a32d192ed03u;
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
  return x ^ (x >> 29);
}

static uint64_t version_of(const struct memory *m, uint64_t page) {
  return m->rewritten / m->pages + (page < m->rewritten % m->pages ? 1 : 0);
}

static void fill_page(struct memory *m, uint64_t page, uint64_t version) {
  uint64_t *at = m->words + page * WORDS;
  for (uint64_t i = 0; i < WORDS; i++) at[i] = pattern(m->seed, page * WORDS + i, version);
}

static void verify_page(struct memory *m, uint64_t page) {
  const uint64_t *at = m->words + page * WORDS;
  const uint64_t version = version_of(m, page);
  for (uint64_t i = 0; i < WORDS; i++) {
    m->wrong += at[i] != pattern(m->seed, page * WORDS + i, version);
  }
}

static void touch(struct memory *m) {
  for (int i = 0; i < PAGES_PER_ROUND; i++) {
    const uint64_t page = m->rewritten % m->pages;
    verify_page(m, page);
    fill_page(m, page, version_of(m, page) + 1);
    m->rewritten++;
  }
}

/* To the right, from the left. */
static void exchange(struct message *out, struct message *in, int rank, int ranks) {
  MPI_Request requests[2];
  MPI_Status statuses[2];
  int done = 0;
  MPI_Irecv(in, sizeof *in, MPI_BYTE, (rank + ranks - 1) % ranks, 0, MPI_COMM_WORLD, &requests[0]);
  MPI_Isend(out, sizeof *out, MPI_BYTE, (rank + 1) % ranks, 0, MPI_COMM_WORLD, &requests[1]);
  for (;;) {
    MPI_Testall(2, requests, &done, statuses);
    if (done) return;
    pause_us(POLL_US);
  }
}

/* Returns the number of messages that were not as they had to be. */
static uint64_t run(struct memory *m, int rank, int ranks, double seconds,
                    const char *stop) {
  const int left = (rank + ranks - 1) % ranks;
  const double end = now() + seconds;
  double before = now(), report = before + REPORT_S, longest = 0, longest_at = before;
  uint64_t wrong = 0, last = 0;
  for (uint64_t round = 1; last == 0 || round <= last; round++) {
    touch(m);
    struct message out = {round, last, pattern((uint64_t)rank, round, 0)}, in = {0, 0, 0};
    exchange(&out, &in, rank, ranks);
    if (in.round != round || in.total != pattern((uint64_t)left, round, 0)) wrong++;
    if (last == 0) last = in.last;
    const double t = now();
    if (t - before > longest) {
      longest = t - before;
      longest_at = t;
    }
    before = t;
    if (t >= report) {
      printf("gap rank %d %.1f ms at %.3f\n", rank, longest * 1000, longest_at);
      longest = 0;
      report = t + REPORT_S;
      /* The word goes once round the ring, so everybody has it before the last round. */
      if (rank == 0 && last == 0 && (t >= end || (stop != NULL && access(stop, F_OK) == 0))) {
        last = round + (uint64_t)ranks + 1;
      }
    }
    pause_us(PAUSE_US);
  }
  printf("gap rank %d %.1f ms at %.3f\n", rank, longest * 1000, longest_at);
  return wrong;
}

/* The rank's entry of "64,64,16"; 0 if the text is not such a list. */
static uint64_t amount(const char *text, int rank) {
  uint64_t value = 0;
  for (int i = 0; i <= rank; i++) {
    char *end;
    value = strtoull(text, &end, 10);
    if (end == text || (*end != ',' && *end != '\0')) return 0;
    if (*end == '\0') break;
    text = end + 1;
  }
  return value;
}

int main(int argc, char **argv) {
  int rank, ranks;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  setvbuf(stdout, NULL, _IOLBF, 0);
  const uint64_t megabytes = argc > 1 ? amount(argv[1], rank) : 0;
  const double seconds = argc > 2 ? atof(argv[2]) : 60;
  if (megabytes == 0 || megabytes > 1 << 20 || seconds <= 0) {
    fprintf(stderr, "usage: memory MB[,MB...] [SECONDS [FILE]]\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  struct memory m = {.pages = megabytes * 1000000 / PAGE + 1, .seed = (uint64_t)rank << 56};
  m.words = mmap(NULL, m.pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (m.words == MAP_FAILED) {
    perror("memory: mmap");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  for (uint64_t page = 0; page < m.pages; page++) fill_page(&m, page, 0);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) printf("memory ready\n");

  uint64_t wrong[2] = {0, 0}, all[2] = {0, 0};
  wrong[1] = run(&m, rank, ranks, seconds, argc > 3 ? argv[3] : NULL);
  for (uint64_t page = 0; page < m.pages; page++) verify_page(&m, page);
  wrong[0] = m.wrong;
  if (wrong[0] + wrong[1] > 0) {
    printf("rank %d: %llu wrong words, %llu wrong messages\n", rank, (unsigned long long)wrong[0],
           (unsigned long long)wrong[1]);
  }
  MPI_Allreduce(wrong, all, 2, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) printf(all[0] + all[1] == 0 ? "memory ok\n" : "memory WRONG\n");
  MPI_Finalize();
  return all[0] + all[1] == 0 ? 0 : 1;
}
