/* areas.c - the areas: mappings that are written, moved, cut, protected, given back, and checked.
 *
 * Everything that is done to an area is done under its lock. Short of memory or of mappings an
 * operation does nothing: it is not what is tested here.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum { AREAS_MAX = 96, HUGE_PAGES = 512, TOUCHED_MAX = 24, BETWEEN_SWEEPS_US = 4000, WINDOW_PAGES = 3000 };

static struct area *areas[AREAS_MAX];
static unsigned count;

unsigned area_count(void) { return count; }
struct area *area_number(unsigned number) { return areas[number]; }

static void die(const char *what) {
  perror(what);
  exit(2);
}

static void *map(uint64_t bytes, int protection, int flags, int fd) {
  void *at = mmap(NULL, bytes, protection, flags, fd, 0);
  return at == MAP_FAILED ? NULL : at;
}

static uint64_t bytes_of(const struct area *a) { return a->pages * a->stride * PAGE; }

/* A child has the locks as they were when it was made, and nobody beside it; but what is common to
 * it and its parent has a lock that both use. */
void lock_area(struct area *a) {
  if (!in_child || a->common) pthread_mutex_lock(&a->lock);
}
void unlock_area(struct area *a) {
  if (!in_child || a->common) pthread_mutex_unlock(&a->lock);
}
void lock_all(void) {
  for (unsigned i = 0; i < count; i++) lock_area(areas[i]);
}
void unlock_all(void) {
  for (unsigned i = 0; i < count; i++) unlock_area(areas[i]);
}

static bool has_file(const struct area *a) {
  return a->kind == FILE_PRIVATE || a->kind == FILE_SHARED || a->kind == NAMELESS || a->kind == WINDOW;
}

static int open_file(const struct area *a) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/torture-%d-%u", my_rank, a->id);
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0 || ftruncate(fd, (off_t)(a->pages_max * PAGE)) != 0) die(path);
  if ((a->kind == NAMELESS || a->kind == WINDOW) && unlink(path) != 0) die(path);
  uint64_t words[WORDS];
  for (uint64_t page = 0; a->kind == FILE_PRIVATE && page < a->pages_max; page++) {
    fill_words(words, WORDS, mix(a->id, page));
    if (pwrite(fd, words, PAGE, (off_t)(page * PAGE)) != PAGE) die(path);
  }
  return fd;
}

/* Maps `pages` pages of an area that has none. */
static bool map_area(struct area *a, uint64_t pages) {
  const int rw = PROT_READ | PROT_WRITE;
  const uint64_t bytes = pages * a->stride * PAGE;
  a->protection = rw;
  switch (a->kind) {
    case ANON:
    case SPARSE:
    case LOCKED: a->at = map(bytes, rw, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1); break;
    case SHARED: a->at = map(bytes, rw, MAP_SHARED | MAP_ANONYMOUS, -1); break;
    case FILE_PRIVATE: a->at = map(bytes, rw, MAP_PRIVATE, a->fd); break;
    case FILE_SHARED:
    case WINDOW:
    case NAMELESS: a->at = map(bytes, rw, MAP_SHARED, a->fd); break;
    case HEAP: a->at = sbrk((intptr_t)bytes); break;
    case AREA_KINDS: break;
  }
  if (a->at == NULL || a->at == (void *)-1) return false;
  a->pages = pages;
  if (!has_file(a)) a->id = atomic_fetch_add(&all->next_id, 1);
  now_empty(a, 0, a->pages_max);
  if (a->kind == LOCKED && mlock(a->at, bytes) != 0) say("cannot lock memory: %s", strerror(errno));
  return true;
}

static void add_area(enum area_kind kind, uint64_t pages_max, uint64_t stride) {
  if (count == AREAS_MAX) return;
  const bool common = kind == SHARED || kind == FILE_SHARED || kind == NAMELESS || kind == WINDOW;
  const int flags = (common ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS;
  struct area *a = map(sizeof *a, PROT_READ | PROT_WRITE, flags, -1);
  if (a == NULL) die("torture: mmap");
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  if (common) pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&a->lock, &attributes);
  a->kind = kind;
  a->common = common;
  a->stride = stride;
  a->pages_max = pages_max;
  a->id = atomic_fetch_add(&all->next_id, 1);
  a->entries = map(pages_max * sizeof *a->entries, PROT_READ | PROT_WRITE, flags, -1);
  a->fd = has_file(a) ? open_file(a) : -1;
  if (a->entries == NULL || !map_area(a, pages_max / 2 + 1)) die("torture: mmap");
  if (kind == WINDOW) close(a->fd);
  areas[count++] = a;
  for (uint64_t page = 0; page < a->pages; page++) {
    if (kind != FILE_PRIVATE || page % 3 == 0) write_page(a, page);
  }
}

void make_areas(uint64_t megabytes) {
  const uint64_t pages = megabytes * 1000000 / PAGE;
  add_area(HEAP, pages / 32 + 8, 1);
  add_area(SHARED, pages / 32 + 8, 1);
  add_area(FILE_PRIVATE, pages / 32 + 8, 1);
  add_area(FILE_SHARED, pages / 32 + 8, 1);
  add_area(NAMELESS, pages / 32 + 8, 1);
  for (int i = 0; i < 3; i++) add_area(WINDOW, WINDOW_PAGES, 1);
  add_area(LOCKED, 12, 1);
  add_area(SPARSE, 300, HUGE_PAGES);
  /* Half of each is mapped at first, and in the mean. */
  add_area(ANON, pages / 2, 1);
  for (uint64_t left = pages; left > 64 && count < AREAS_MAX;) {
    const uint64_t size = 16 + random_below(left < 4096 ? left : 4096);
    add_area(ANON, size, 1);
    left -= size < left ? size : left;
  }
}

void drop_area(struct area *a) {
  if (a->kind != HEAP) munmap(a->at, bytes_of(a));
  a->pages = 0;
}

/* ---- operations */

static void allow(struct area *a) {
  const int rw = PROT_READ | PROT_WRITE;
  if (a->protection == rw || a->pages == 0) return;
  if (mprotect(a->at, bytes_of(a), rw) != 0) die("torture: mprotect");
  a->protection = rw;
}

static void write_some(struct area *a) {
  const uint64_t first = random_below(a->pages), n = 1 + random_below(TOUCHED_MAX);
  const bool scattered = random_below(2) == 0;
  for (uint64_t i = 0; i < n; i++) {
    const uint64_t page = scattered ? random_below(a->pages) : (first + i) % a->pages;
    switch (random_below(8)) {
      case 0: zero_page(a, page); break;
      case 1:
      case 2: write_part(a, page); break;
      default: write_page(a, page); break;
    }
  }
}

static void give_back(struct area *a) {
  const uint64_t first = random_below(a->pages), n = 1 + random_below(a->pages - first);
  for (uint64_t i = 0; i < n && i < TOUCHED_MAX; i++) check_page(a, first + i);
  if (a->kind == WINDOW && random_below(4) != 0) { /* out of the page table: the file keeps them */
    (void)madvise(a->at + first * PAGE, n * PAGE, MADV_DONTNEED);
    return;
  }
  const int advice = a->kind == SHARED || a->kind == NAMELESS || a->kind == WINDOW ? MADV_REMOVE : MADV_DONTNEED;
  if (madvise(a->at + first * a->stride * PAGE, n * a->stride * PAGE, advice) != 0) return;
  now_empty(a, first, n);
  for (uint64_t i = 0; i < n; i++) {
    if (random_below(4) != 0) write_page(a, first + i);
  }
}

static void map_anew(struct area *a) {
  const uint64_t pages = 1 + random_below(a->pages_max);
  check_area(a);
  munmap(a->at, bytes_of(a));
  a->pages = 0;
  if (!map_area(a, pages)) die("torture: mmap");
  const uint64_t n = pages / 2 + random_below(pages / 2 + 1);
  for (uint64_t i = 0; i < n; i++) write_page(a, random_below(2) == 0 ? i : random_below(pages));
}

static void resized(struct area *a, uint64_t pages) {
  const uint64_t before = a->pages;
  a->pages = pages;
  if (pages < before) {
    now_empty(a, pages, before - pages);
  } else {
    for (uint64_t page = before; page < pages; page++) {
      if (random_below(2) == 0) write_page(a, page);
    }
  }
}

static void resize(struct area *a) {
  const uint64_t pages = 1 + random_below(a->pages_max);
  if (a->kind == HEAP) {
    /* Only while nobody else has moved the end of the heap. */
    if (sbrk(0) != a->at + bytes_of(a)) return;
    const intptr_t change = ((intptr_t)pages - (intptr_t)a->pages) * PAGE;
    if (sbrk(change) != (void *)-1) resized(a, pages);
    return;
  }
  void *at = mremap(a->at, bytes_of(a), pages * a->stride * PAGE, MREMAP_MAYMOVE);
  if (at == MAP_FAILED) return;
  a->at = at;
  resized(a, pages);
}

static void move(struct area *a) {
  void *place = map(bytes_of(a), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
  if (place == NULL) return;
  void *at = mremap(a->at, bytes_of(a), bytes_of(a), MREMAP_MAYMOVE | MREMAP_FIXED, place);
  if (at == MAP_FAILED) {
    munmap(place, bytes_of(a));
    return;
  }
  a->at = at;
}

static void protect(struct area *a) {
  const int protection = random_below(2) == 0 ? PROT_NONE : PROT_READ;
  if (mprotect(a->at, bytes_of(a), protection) == 0) a->protection = protection;
}

static void advise_huge(struct area *a) {
  static const int advice[] = {MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_COLLAPSE};
  (void)madvise(a->at, bytes_of(a), advice[random_below(3)]);
}

void operate(struct area *a) {
  if (a->pages == 0) return;
  allow(a);
  atomic_fetch_add_explicit(&all->operations, 1, memory_order_relaxed);
  const uint64_t choice = random_below(100);
  const bool plain = a->kind == ANON;
  if (choice < 70) write_some(a);
  else if (choice < 76 && a->kind != LOCKED && a->kind != FILE_SHARED && a->kind != HEAP) give_back(a);
  else if (choice < 80 && (plain || a->kind == FILE_PRIVATE)) map_anew(a);
  else if (choice < 86 && (plain || (a->kind == HEAP && !in_child))) resize(a);
  else if (choice < 90 && plain) move(a);
  else if (choice < 95 && !a->common && a->kind != LOCKED) protect(a);
  else if (plain) advise_huge(a);
}

/* ---- checks */

void check_area(struct area *a) {
  uint64_t versions = 0;
  for (uint64_t page = 0; page < a->pages_max; page++) versions += a->entries[page].version;
  if (versions != a->versions) {
    wrong("entries of area %u: their versions sum up to %lu, %lu expected", a->id, versions,
          a->versions);
  }
  if (a->pages == 0) return;
  const int before = a->protection;
  if (before == PROT_NONE && mprotect(a->at, bytes_of(a), PROT_READ) != 0) die("torture: mprotect");
  for (uint64_t page = 0; page < a->pages; page++) check_page(a, page);
  if (before == PROT_NONE && mprotect(a->at, bytes_of(a), PROT_NONE) != 0) die("torture: mprotect");
}

void *worker_main(void *ticks) {
  while (!all->stopping) {
    struct area *a = areas[random_below(count)];
    lock_area(a);
    operate(a);
    unlock_area(a);
    atomic_fetch_add((atomic_ulong *)ticks, 1);
    sleep_us(pause_us / 2 + (long)random_below((uint64_t)pause_us));
  }
  return NULL;
}

void *sweeper_main(void *ticks) {
  for (unsigned i = 0; !all->stopping; i = (i + 1) % count) {
    lock_area(areas[i]);
    check_area(areas[i]);
    unlock_area(areas[i]);
    atomic_fetch_add((atomic_ulong *)ticks, 1);
    sleep_us(BETWEEN_SWEEPS_US + 10 * (long)areas[i]->pages);
  }
  return NULL;
}
