/* memory - ranks that hold a known amount of memory, rewrite a part of it at a known rate, verify all
 * of it, and notice when they stand still.
 *
 *   memory [OPTIONS] MB[,MB...] [SECONDS [FILE]]
 *
 *   --hot PERCENT    of its memory is rewritten again and again (default 100; 0: nothing is written)
 *   --dirty PAGES    pages of 4 KiB rewritten per second by rank 0, or "max" (default 16000); other
 *                    ranks write in proportion to their memory
 *   --huge           ask for huge pages (madvise)
 *   --shared KIND    hold memory that could be shared with other processes: "anonymous", or "file", one in
 *                    /dev/shm that has lost its name, as MPI makes them
 *   --tcp DIR        no MPI: two processes that meet in DIR; needs --rank, or PMI_RANK in the
 *                    environment, as MPI launchers set it
 *   --rank N         0 or 1, with --tcp
 *   --interface NAME whose address rank 1 listens on, with --tcp (default eth0)
 *   --log PREFIX     output and errors go to the file PREFIX + rank, and input comes from /dev/null: a
 *                    process that is to be moved must not hold a file from outside of its container
 *
 * Rank i allocates the i-th amount (the last one holds for all further ranks; 1 MB = 10^6 bytes),
 * fills it with a pattern and then, until SECONDS (default 60) have passed or FILE exists:
 *   - verifies and rewrites pages of the hot part in turn, verifies one of the rest, and sleeps for
 *     about a millisecond;
 *   - exchanges a number with its neighbours in a ring of all ranks, and checks it.
 * Prints, when all ranks are ready, "memory ready"; each second, per rank, the longest gap between
 * two exchanges in that second and when it ended, the longest pause between two looks at the clock
 * (in a pause the process did not run at all: its own view of a downtime) and when that ended, and
 * the pages rewritten so far and by when. The clock is CLOCK_REALTIME, that of the machine a rank is moved to:
 *   gap rank 1 312.4 ms at 1700000000.123 pause 20.1 ms at 1700000000.101 pages 32000 by 1700000000.502
 * At the end each rank verifies all it has, and rank 0 prints "memory ok" or "memory WRONG".
 * The exit status is 0 if all was right, 1 if not, 2 for bad arguments.
 *
 * A page knows nothing of its own age: what must be in it follows from the number of pages that
 * were rewritten so far, so a page that was restored as it had been earlier is found, too.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "exchange.h"
#include "rank.h"

enum { PAGE = 4096, WORDS = PAGE / 8, PAUSE_US = 900, LOOK_EVERY = 64 };
/* What a rank writes at most before it talks to its peers again: it does not make up for a stop. */
static const double BATCH_S = 0.02;
static const double REPORT_S = 1;

struct options {
  const char *amounts, *stop, *tcp, *interface, *log;
  double seconds, hot_percent, dirty_per_s; /* dirty < 0: as fast as it goes */
  const char *shared;
  int rank, huge;
};

struct memory {
  uint64_t *words;
  uint64_t pages, hot; /* the first `hot` of them are rewritten in turn */
  uint64_t rewritten;  /* pages, since the start */
  uint64_t looked_at;  /* of the rest */
  uint64_t wrong;      /* words */
  uint64_t seed;
};

struct clock {
  double last, longest_pause, longest_at;
};

static void look(void *context) {
  struct clock *clock = context;
  const double t = now();
  if (t - clock->last > clock->longest_pause) {
    clock->longest_pause = t - clock->last;
    clock->longest_at = t;
  }
  clock->last = t;
}

static uint64_t version_of(const struct memory *m, uint64_t page) {
  if (page >= m->hot) return 0;
  return m->rewritten / m->hot + (page < m->rewritten % m->hot ? 1 : 0);
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

/* Rewrites what is due since `*from`, which it moves on. */
static void touch(struct memory *m, double rate, double *from, struct clock *clock) {
  const double start = now();
  if (start - *from > BATCH_S) *from = start - BATCH_S;
  const uint64_t due = rate < 0 ? UINT64_MAX : (uint64_t)((start - *from) * rate);
  uint64_t done = 0;
  while (m->hot > 0 && done < due) {
    const uint64_t page = m->rewritten % m->hot;
    verify_page(m, page);
    fill_page(m, page, version_of(m, page) + 1);
    m->rewritten++;
    if (++done % LOOK_EVERY != 0) continue;
    look(clock);
    if (rate < 0 && clock->last - start > BATCH_S) break;
  }
  if (rate > 0) *from += (double)done / rate;
  if (m->hot < m->pages) verify_page(m, m->hot + m->looked_at++ % (m->pages - m->hot));
  look(clock);
}

/* Returns the number of messages that were not as they had to be. */
static uint64_t run(struct memory *m, const struct ring *ring, const struct options *o, double rate) {
  const int left = (ring->rank + ring->ranks - 1) % ring->ranks;
  const double start = now(), end = start + o->seconds;
  struct clock clock = {start, 0, start};
  double before = start, due = start, report = start + REPORT_S, longest = 0, longest_at = start;
  uint64_t wrong = 0, last = 0;
  for (uint64_t round = 1; last == 0 || round <= last; round++) {
    touch(m, rate, &due, &clock);
    struct message out = {round, last, pattern((uint64_t)ring->rank, round, 0)}, in = {0, 0, 0};
    if (exchange(ring, &out, &in, look, &clock) != 0) {
      printf("rank %d: the connection is lost\n", ring->rank);
      return wrong + 1;
    }
    if (in.round != round || in.total != pattern((uint64_t)left, round, 0)) wrong++;
    if (last == 0) last = in.last;
    const double t = now();
    if (t - before > longest) {
      longest = t - before;
      longest_at = t;
    }
    before = t;
    if (t >= report) {
      printf("gap rank %d %.1f ms at %.3f pause %.1f ms at %.3f pages %llu by %.3f\n", ring->rank,
             longest * 1000, longest_at, clock.longest_pause * 1000, clock.longest_at,
             (unsigned long long)m->rewritten, t);
      longest = clock.longest_pause = 0;
      report = t + REPORT_S;
      /* The word goes once round the ring, so everybody has it before the last round. */
      if (ring->rank == 0 && last == 0 &&
          (t >= end || (o->stop != NULL && access(o->stop, F_OK) == 0))) {
        last = round + (uint64_t)ring->ranks + 1;
      }
    }
    pause_us(PAUSE_US);
    look(&clock);
  }
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

static int usage(void) {
  fprintf(stderr, "usage: memory [--hot PERCENT] [--dirty PAGES|max] [--huge] [--shared KIND] "
                  "[--tcp DIR --rank N --interface NAME] [--log PREFIX] MB[,MB...] [SECONDS [FILE]]\n");
  return 2;
}

static int parse(int argc, char **argv, struct options *o) {
  static const struct option known[] = {
    {"hot", 1, NULL, 'h'},       {"dirty", 1, NULL, 'd'}, {"huge", 0, NULL, 'H'},
    {"tcp", 1, NULL, 't'},       {"rank", 1, NULL, 'r'},  {"interface", 1, NULL, 'i'},
    {"log", 1, NULL, 'l'},       {"shared", 1, NULL, 's'}, {NULL, 0, NULL, 0}};
  const char *given = getenv("PMI_RANK");
  *o = (struct options){.interface = "eth0", .seconds = 60, .hot_percent = 100,
                        .dirty_per_s = 16000, .rank = given != NULL ? atoi(given) : -1};
  for (int c; (c = getopt_long(argc, argv, "+", known, NULL)) != -1;) {
    switch (c) {
      case 'h': o->hot_percent = atof(optarg); break;
      case 'd': o->dirty_per_s = strcmp(optarg, "max") == 0 ? -1 : atof(optarg); break;
      case 'H': o->huge = 1; break;
      case 's': o->shared = optarg; break;
      case 't': o->tcp = optarg; break;
      case 'r': o->rank = atoi(optarg); break;
      case 'i': o->interface = optarg; break;
      case 'l': o->log = optarg; break;
      default: return -1;
    }
  }
  if (optind < argc) o->amounts = argv[optind];
  if (optind + 1 < argc) o->seconds = atof(argv[optind + 1]);
  if (optind + 2 < argc) o->stop = argv[optind + 2];
  const int shared_ok = o->shared == NULL || strcmp(o->shared, "file") == 0 || strcmp(o->shared, "anonymous") == 0;
  const int in_range = shared_ok && o->hot_percent >= 0 && o->hot_percent <= 100 && o->seconds > 0;
  const int has_rank = o->tcp == NULL || o->rank == 0 || o->rank == 1;
  return o->amounts != NULL && in_range && has_rank ? 0 : -1;
}

/* A file in /dev/shm without a name; -1: none. */
static int nameless(size_t bytes) {
  char path[] = "/dev/shm/memory-XXXXXX";
  const int fd = mkstemp(path);
  if (fd >= 0 && (unlink(path) != 0 || ftruncate(fd, (off_t)bytes) != 0)) return -1;
  return fd;
}

static int allocate(struct memory *m, const struct options *o, uint64_t megabytes, int rank) {
  m->pages = megabytes * 1000000 / PAGE + 1;
  m->hot = (uint64_t)((double)m->pages * o->hot_percent / 100);
  m->seed = (uint64_t)rank << 56;
  const int in_file = o->shared != NULL && strcmp(o->shared, "file") == 0;
  const int fd = in_file ? nameless(m->pages * PAGE) : -1;
  if (in_file && fd < 0) return -1;
  m->words = mmap(NULL, m->pages * PAGE, PROT_READ | PROT_WRITE,
                  (o->shared != NULL ? MAP_SHARED : MAP_PRIVATE) | (in_file ? 0 : MAP_ANONYMOUS), fd, 0);
  if (m->words == MAP_FAILED) return -1;
  if (fd >= 0) (void)close(fd); /* as MPICH does with its windows */
  if (o->huge && madvise(m->words, m->pages * PAGE, MADV_HUGEPAGE) != 0) return -1;
  for (uint64_t page = 0; page < m->pages; page++) fill_page(m, page, 0);
  return 0;
}

int main(int argc, char **argv) {
  struct options o;
  struct ring ring = {0, 1, -1};
  if (parse(argc, argv, &o) != 0) return usage();
  ring.rank = o.rank;
  if (o.tcp == NULL) ring_over_mpi(&ring, &argc, &argv);
  if (o.log != NULL && redirect(o.log, ring.rank) != 0) return perror(o.log), 1;
  setvbuf(stdout, NULL, _IOLBF, 0);
  const uint64_t megabytes = amount(o.amounts, ring.rank);
  if (megabytes == 0 || megabytes > 1 << 20) return usage();
  struct memory m = {0};
  if (allocate(&m, &o, megabytes, ring.rank) != 0) return perror("memory: allocate"), 1;
  if (o.tcp != NULL && ring_over_tcp(&ring, o.tcp, o.interface) != 0) return perror(o.tcp), 1;
  sum_over_ranks(&ring, 0); /* all are ready */
  if (ring.rank == 0) printf("memory ready\n");

  const double share = (double)megabytes / (double)amount(o.amounts, 0);
  const uint64_t messages = run(&m, &ring, &o, o.dirty_per_s < 0 ? -1 : o.dirty_per_s * share);
  for (uint64_t page = 0; page < m.pages; page++) verify_page(&m, page);
  if (m.wrong + messages > 0) {
    printf("rank %d: %llu wrong words, %llu wrong messages\n", ring.rank,
           (unsigned long long)m.wrong, (unsigned long long)messages);
  }
  const uint64_t all = sum_over_ranks(&ring, m.wrong + messages);
  if (ring.rank == 0) printf(all == 0 ? "memory ok\n" : "memory WRONG\n");
  ring_end(&ring);
  return all == 0 ? 0 : 1;
}
