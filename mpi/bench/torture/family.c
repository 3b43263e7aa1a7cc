/* family.c - children, grandchildren, zombies, short-lived threads, page-aligned stack pointers. */
#define _GNU_SOURCE
#include "torture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN_MAX = 3, DEPTH_MAX = 2, KEPT_PAGES_MAX = 3000, FRAME = 16384, FRAMES_MAX = 256 };
enum { SHORT_THREADS = 4, STACK_PAGES = 8 };

/* ---- children: they hold what their parent had at that moment, change it and lose nothing */

static pid_t make_child(unsigned depth);

static void check_child(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    wrong("child %d ended with status %x", (int)pid, (unsigned)status);
  }
}

static void operate_locked(struct area *a) {
  lock_area(a);
  operate(a);
  unlock_area(a);
}

static _Noreturn void child_main(unsigned depth) {
  in_child = true;
  my_salt = atomic_fetch_add(&all->next_salt, 1);
  uint64_t kept = 0;
  for (unsigned i = 0; i < area_count(); i++) {
    struct area *a = area_number(i);
    if (a->common) continue;
    if (a->kind != HEAP && (kept + a->pages > KEPT_PAGES_MAX || random_below(3) == 0)) {
      drop_area(a);
    }
    kept += a->pages;
  }
  const double end = seconds() + 0.02 * (double)random_below(120);
  pid_t grandchild = -1;
  while (seconds() < end && !all->stopping) {
    struct area *a = area_number((unsigned)random_below(area_count()));
    operate_locked(a);
    sleep_us(2 * pause_us);
    if (grandchild < 0 && depth < DEPTH_MAX && random_below(100) == 0) {
      grandchild = make_child(depth + 1);
    }
  }
  for (unsigned i = 0; i < area_count(); i++) {
    if (!area_number(i)->common) check_area(area_number(i));
  }
  if (grandchild > 0) check_child(grandchild);
  _exit(0);
}

static pid_t make_child(unsigned depth) {
  if (depth > 1) {
    /* Alone: but what is common must be whole, and stays locked for as long. */
    for (unsigned i = 0; i < area_count(); i++) {
      if (area_number(i)->common) lock_area(area_number(i));
    }
  } else {
    lock_all();
  }
  const pid_t pid = fork();
  if (pid == 0) child_main(depth);
  if (depth > 1) {
    for (unsigned i = 0; i < area_count(); i++) {
      if (area_number(i)->common) unlock_area(area_number(i));
    }
  } else {
    unlock_all();
  }
  if (pid > 0) atomic_fetch_add(&all->children, 1);
  return pid;
}

void *forker_main(void *ticks) {
  pid_t children[CHILDREN_MAX] = {0};
  while (!all->stopping) {
    while (calm() && !all->stopping) sleep_us(10000);
    pid_t *slot = &children[random_below(CHILDREN_MAX)];
    /* One that has ended meanwhile was a zombie since then. */
    if (*slot > 0) check_child(*slot);
    *slot = make_child(1);
    atomic_fetch_add((atomic_ulong *)ticks, 1);
    sleep_us((long)random_below(700000));
  }
  for (int i = 0; i < CHILDREN_MAX; i++) {
    if (children[i] > 0) check_child(children[i]);
  }
  return NULL;
}

/* ---- threads that come and go */

static _Thread_local uint64_t of_thread[64];

static void *short_main(void *argument) {
  const uint64_t seed = mix((uintptr_t)argument, random_below(1U << 30));
  uint64_t on_stack[STACK_PAGES * WORDS];
  fill_words(on_stack, STACK_PAGES * WORDS, seed);
  fill_words(of_thread, 64, seed);
  sleep_us((long)random_below(300000));
  if (first_wrong_word(on_stack, STACK_PAGES * WORDS, seed) != STACK_PAGES * WORDS) {
    wrong("stack of a short-lived thread at %p", (void *)on_stack);
  }
  if (first_wrong_word(of_thread, 64, seed) != 64) wrong("thread-local memory at %p", (void *)of_thread);
  return NULL;
}

void *threads_main(void *ticks) {
  while (!all->stopping) {
    while (calm() && !all->stopping) sleep_us(10000);
    pthread_t threads[SHORT_THREADS];
    unsigned made = 0;
    while (made < SHORT_THREADS &&
           pthread_create(&threads[made], NULL, short_main, (void *)(uintptr_t)made) == 0) {
      made++;
      sleep_us((long)random_below(20000));
    }
    for (unsigned i = 0; i < made; i++) pthread_join(threads[i], NULL);
    atomic_fetch_add((atomic_ulong *)ticks, 1);
  }
  return NULL;
}

/* ---- a stack pointer at the start of a page, asleep and awake: OpenBLAS does so, and CRIU decides by
 * it what is a stack */

static void sleep_aligned(long us) {
#ifdef __x86_64__
  struct timespec t = {0, us * 1000};
  struct timespec *at = &t;
  long call = SYS_nanosleep;
  __asm__ volatile(
      "mov %%rsp, %%rbx\n\t"
      "and $-4096, %%rsp\n\t"
      "syscall\n\t"
      "mov %%rbx, %%rsp"
      : "+a"(call)
      : "D"(at), "S"(0L)
      : "rbx", "rcx", "r11", "memory", "cc");
#else
  sleep_us(us);
#endif
}

static void spin_aligned(long rounds) {
#ifdef __x86_64__
  __asm__ volatile(
      "mov %%rsp, %%rbx\n\t"
      "and $-4096, %%rsp\n"
      "1: pause\n\t"
      "dec %0\n\t"
      "jnz 1b\n\t"
      "mov %%rbx, %%rsp"
      : "+r"(rounds)
      :
      : "rbx", "memory", "cc");
#else
  (void)rounds;
#endif
}

void *aligned_stack_main(void *ticks) {
  uint64_t words[STACK_PAGES * WORDS];
  for (uint64_t seed = 1; !all->stopping; seed++) {
    fill_words(words, STACK_PAGES * WORDS, seed);
    sleep_aligned(20000);
    spin_aligned(20000);
    if (first_wrong_word(words, STACK_PAGES * WORDS, seed) != STACK_PAGES * WORDS) {
      wrong("stack of a thread whose stack pointer is page-aligned, at %p", (void *)words);
    }
    atomic_fetch_add((atomic_ulong *)ticks, 1);
  }
  return NULL;
}

/* ---- a deep stack */

static void descend(unsigned frames, uint64_t seed) {
  uint64_t words[FRAME / 8];
  fill_words(words, FRAME / 8, mix(seed, frames));
  if (frames > 1) {
    descend(frames - 1, seed);
  } else {
    sleep_us((long)random_below(100000));
  }
  if (first_wrong_word(words, FRAME / 8, mix(seed, frames)) != FRAME / 8) {
    wrong("frame %u of a deep stack at %p", frames, (void *)words);
  }
}

void deep_stack(void) { descend(1 + (unsigned)random_below(FRAMES_MAX), random_below(1U << 30)); }
