/* pages.c - what belongs into a page, and what is wrong with one. */
#include "torture.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REPORTS_MAX = 40, OLDER_MAX = 20000 };

struct common *all;
uint32_t my_salt;
bool in_child;
int my_rank;
long pause_us = 3000;

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a + b * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t random_below(uint64_t limit) {
  static _Thread_local uint64_t state;
  static _Thread_local uint32_t owner; /* a child has a sequence of its own */
  if (state == 0 || owner != my_salt) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    state = mix((uint64_t)t.tv_nsec ^ (uintptr_t)&state, mix((uint64_t)t.tv_sec, my_salt + 1)) | 1;
    owner = my_salt;
  }
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return limit == 0 ? 0 : (state >> 16) % limit;
}

void sleep_us(long us) {
  struct timespec t = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&t, NULL);
}

/* One line, in one write: children must not share the buffers of stdio. */
static void say_line(const char *prefix, const char *format, va_list arguments) {
  char text[512];
  int n = snprintf(text, sizeof text, "%srank %d pid %d: ", prefix, my_rank, (int)getpid());
  n += vsnprintf(text + n, sizeof text - (size_t)n - 1, format, arguments);
  if (n > (int)sizeof text - 2) n = (int)sizeof text - 2;
  text[n++] = '\n';
  if (write(STDOUT_FILENO, text, (size_t)n) != n) return; /* nobody listens: the status tells */
}

void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say_line("torture ", format, arguments);
  va_end(arguments);
}

void wrong(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (atomic_fetch_add(&all->wrong, 1) < REPORTS_MAX) say_line("WRONG ", format, arguments);
  va_end(arguments);
}

unsigned char *page_of(const struct area *a, uint64_t page) {
  return a->at + page * a->stride * PAGE + page % a->stride * PAGE;
}

static uint32_t entry_check(const struct area *a, uint64_t page, const struct entry *e) {
  const uint64_t what = (uint64_t)e->sub << 48 | (uint64_t)e->state << 32 | e->version;
  return (uint32_t)mix(mix(a->id, page), mix(what, e->writer));
}

void set_entry(struct area *a, uint64_t page, struct entry entry) {
  a->versions += entry.version - a->entries[page].version;
  entry.check = entry_check(a, page, &entry);
  a->entries[page] = entry;
}

static uint64_t seed_of(const struct area *a, uint64_t page, const struct entry *e) {
  if (e->state == PAGE_FILE) return mix(a->id, page); /* as it was written into the file */
  return mix(mix(a->id, page), mix(e->version, e->writer + 1));
}

static uint64_t word_of(uint64_t seed, uint64_t index) {
  const uint64_t x = (seed + index) * 0xd1b54a32d192ed03u;
  return x ^ (x >> 29);
}

void fill_words(uint64_t *at, uint64_t words, uint64_t seed) {
  for (uint64_t i = 0; i < words; i++) at[i] = word_of(seed, i);
}

uint64_t first_wrong_word(const uint64_t *at, uint64_t words, uint64_t seed) {
  for (uint64_t i = 0; i < words; i++) {
    if (at[i] != word_of(seed, i)) return i;
  }
  return words;
}

static uint64_t expected_word(uint64_t seed, const struct entry *e, uint64_t index) {
  if (e->state == PAGE_ZERO) return 0;
  if (e->sub > 0 && index >= SUB_AT && index < SUB_AT + SUB_WORDS) seed = mix(seed, e->sub);
  return word_of(seed, index);
}

/* What a wrong page holds instead. */
static void diagnose(const struct area *a, uint64_t page, const struct entry *e) {
  static const char *const kinds[] = {"anonymous", "sparse", "shared", "private file",
                                      "shared file", "nameless file", "window", "locked", "heap"};
  static const char *const states[] = {"zeros", "data", "file's"};
  const uint64_t *at = (const uint64_t *)page_of(a, page);
  const uint64_t seed = seed_of(a, page, e);
  uint64_t bad = 0, first = 0, zeros = 0;
  for (uint64_t i = 0; i < WORDS; i++) {
    if (at[i] == expected_word(seed, e, i)) continue;
    if (bad++ == 0) first = i;
    zeros += at[i] == 0;
  }
  char found[64] = "something else";
  if (zeros == bad) snprintf(found, sizeof found, "zeros");
  for (uint32_t back = 0; zeros != bad && back < OLDER_MAX && back < e->version; back++) {
    struct entry older = *e;
    older.version -= back;
    older.state = PAGE_DATA;
    if (at[first] == word_of(seed_of(a, page, &older), first)) {
      snprintf(found, sizeof found, "version %u", older.version);
      break;
    }
  }
  wrong("%s area %u, page %lu of %lu at %p: expected %s (version %u.%u), %lu words from %lu on wrong: %s"
        " (%016lx)", kinds[a->kind], a->id, page, a->pages, (const void *)at, states[e->state],
        e->version, e->sub, bad, first, found, at[first]);
}

void check_page(struct area *a, uint64_t page) {
  struct entry e = a->entries[page];
  if (e.check != entry_check(a, page, &e)) {
    wrong("entry of page %lu of area %u at %p: version %u.%u state %u writer %u check %08x", page,
          a->id, (void *)&a->entries[page], e.version, e.sub, e.state, e.writer, e.check);
    return;
  }
  const uint64_t *at = (const uint64_t *)page_of(a, page);
  const uint64_t seed = seed_of(a, page, &e);
  for (uint64_t i = 0; i < WORDS; i++) {
    if (at[i] == expected_word(seed, &e, i)) continue;
    diagnose(a, page, &e);
    return;
  }
  atomic_fetch_add_explicit(&all->checked, 1, memory_order_relaxed);
}

void write_page(struct area *a, uint64_t page) {
  check_page(a, page);
  struct entry e = {a->entries[page].version + 1, 0, PAGE_DATA, my_salt, 0};
  fill_words((uint64_t *)page_of(a, page), WORDS, seed_of(a, page, &e));
  set_entry(a, page, e);
}

void write_part(struct area *a, uint64_t page) {
  struct entry e = a->entries[page];
  if (e.state != PAGE_DATA || e.sub == UINT16_MAX) {
    write_page(a, page);
    return;
  }
  e.sub++;
  const uint64_t seed = mix(seed_of(a, page, &e), e.sub);
  uint64_t *at = (uint64_t *)page_of(a, page);
  for (uint64_t i = SUB_AT; i < SUB_AT + SUB_WORDS; i++) at[i] = word_of(seed, i);
  set_entry(a, page, e);
}

void zero_page(struct area *a, uint64_t page) {
  check_page(a, page);
  memset(page_of(a, page), 0, PAGE);
  const struct entry e = {a->entries[page].version + 1, 0, PAGE_ZERO, my_salt, 0};
  set_entry(a, page, e);
}

void now_empty(struct area *a, uint64_t page, uint64_t count) {
  for (uint64_t i = page; i < page + count; i++) {
    struct entry e = a->entries[i];
    e.sub = 0;
    e.state = a->kind == FILE_PRIVATE ? PAGE_FILE : PAGE_ZERO;
    set_entry(a, i, e);
  }
}
