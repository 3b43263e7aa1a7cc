/* torture - a program for migrations to fail with: see torture.h.
 *
 *   torture [--mb MB[,MB]] [--pause-us N] [--ranks N] [--stop FILE]
 *
 * Rank i (PMI_RANK) uses about the i-th amount of memory (default: 150, and 40 for rank 1). Its
 * workers rest N microseconds after each change (default 3000). With two ranks, which share a
 * directory at /work, both also talk over TCP. Ends when FILE exists; a last check of everything.
 *
 * One line per second: "torture rank 0 pid 7: 12 s, 8043 operations, 812345 pages checked, 31
 * children, 0 wrong". The last line ends in "ok" or "WRONG". A line that begins
 * with WRONG for each of the first findings. Exit status: 0 all right, 1 something was wrong, 2 it
 * cannot run.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 3, THREADS_MAX = 16, STUCK_S = 60 };

struct thread {
  pthread_t id;
  const char *name;
  atomic_ulong ticks;
  unsigned long last_ticks;
  double moved_at;
};

static struct thread threads[THREADS_MAX];
static unsigned thread_count;

double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool calm(void) {
  const uint64_t period_s = 8;
  return (uint64_t)seconds() % period_s >= period_s / 2;
}

static void start(const char *name, void *(*run)(void *)) {
  struct thread *t = &threads[thread_count++];
  t->name = name;
  t->moved_at = seconds();
  if (pthread_create(&t->id, NULL, run, &t->ticks) != 0) {
    perror("torture: pthread_create");
    exit(2);
  }
}

/* A thread that is never woken again is as wrong as a byte. */
static void watch_threads(void) {
  for (unsigned i = 0; i < thread_count; i++) {
    struct thread *t = &threads[i];
    const unsigned long ticks = t->ticks;
    if (ticks != t->last_ticks) t->moved_at = seconds();
    t->last_ticks = ticks;
    if (seconds() - t->moved_at < STUCK_S) continue;
    wrong("thread '%s' has stood still for %d s", t->name, STUCK_S);
    t->moved_at = seconds();
  }
}

static void tell(double started) {
  say("%.0f s, %lu operations, %lu pages checked, %lu children, %lu wrong",
      seconds() - started, all->operations, all->checked, all->children, all->wrong);
}

static uint64_t amount(const char *list) {
  const char *at = list;
  for (int i = 0; i < my_rank && strchr(at, ',') != NULL; i++) at = strchr(at, ',') + 1;
  return strtoull(at, NULL, 10);
}

int main(int argc, char **argv) {
  const char *stop = "/work/stop", *megabytes = "150,40", *rank = getenv("PMI_RANK");
  int ranks = 1;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--mb") == 0) megabytes = argv[i + 1];
    else if (strcmp(argv[i], "--pause-us") == 0) pause_us = atol(argv[i + 1]);
    else if (strcmp(argv[i], "--ranks") == 0) ranks = atoi(argv[i + 1]);
    else if (strcmp(argv[i], "--stop") == 0) stop = argv[i + 1];
    else argc = 0;
  }
  if (rank != NULL) my_rank = atoi(rank);
  if (argc % 2 == 0 || amount(megabytes) == 0 || pause_us <= 0) {
    fprintf(stderr, "usage: torture [--mb MB[,MB]] [--pause-us N] [--ranks N] [--stop FILE]\n");
    return 2;
  }
  all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (all == MAP_FAILED) {
    perror("torture: mmap");
    return 2;
  }
  all->next_id = 1;
  my_salt = atomic_fetch_add(&all->next_salt, 1);
  make_areas(amount(megabytes));
  for (int i = 0; i < WORKERS; i++) start("worker", worker_main);
  start("sweeper", sweeper_main);
  start("forker", forker_main);
  start("threads", threads_main);
  start("aligned stack", aligned_stack_main);
  start("loopback", loopback_main);
  start("pipe", pipe_main);
  start("events", events_main);
  if (ranks > 1 && my_rank < 2) start("peer", peer_main);

  const double started = seconds();
  say("ready");
  for (double next = started + 1; access(stop, F_OK) != 0;) {
    deep_stack();
    if (seconds() < next) continue;
    next = seconds() + 1;
    watch_threads();
    tell(started);
  }
  all->stopping = true;
  for (unsigned i = 0; i < thread_count; i++) pthread_join(threads[i].id, NULL);
  for (unsigned i = 0; i < area_count(); i++) check_area(area_number(i));
  tell(started);
  say(all->wrong == 0 ? "ok" : "WRONG");
  return all->wrong == 0 ? 0 : 1;
}
