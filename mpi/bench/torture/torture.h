/* torture.h - memory that changes in every way a process can change it, and says so when it is wrong.
 *
 *   main.c      arguments, progress, the end; a main thread whose stack grows
 *   pages.c     what belongs into a page, and what is wrong with one
 *   areas.c     the areas: mappings that are written, moved, cut, protected, given back, checked
 *   family.c    children, grandchildren, zombies, short-lived threads, page-aligned stack pointers
 *   channels.c  TCP to itself and to the other container, a pipe, an eventfd, a timerfd
 *
 * A page's content follows from its area, its index, its version and the process that wrote it. These
 * are noted in an entry per page, in other memory, with a check of its own: a page that came back as
 * zeros, in an older version or from another place is found, and so is an entry that did.
 */
#ifndef LIFEBOAT_TORTURE_H
#define LIFEBOAT_TORTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { PAGE = 4096, WORDS = PAGE / 8 };
enum { SUB_AT = 200, SUB_WORDS = 8 }; /* the part of a page that a sub-page write changes */

/* A page that was never written or was given back holds zeros, or what the file holds. */
enum page_state { PAGE_ZERO = 0, PAGE_DATA = 1, PAGE_FILE = 2 };

struct entry {
  uint32_t version; /* only grows */
  uint16_t sub;     /* sub-page writes since that version was written */
  uint16_t state;
  uint32_t writer;  /* salt of the process that wrote it */
  uint32_t check;   /* of all that, the area and the index */
};

/* NAMELESS: a shared file that has lost its name, as MPI makes its shared memory. WINDOW: one that nobody has a
 * descriptor of, and large. */
enum area_kind { ANON, SPARSE, SHARED, FILE_PRIVATE, FILE_SHARED, NAMELESS, WINDOW, LOCKED, HEAP, AREA_KINDS };

struct area {
  pthread_mutex_t lock; /* of all below; between processes when `common` */
  enum area_kind kind;
  bool common;    /* children see what the parent writes */
  int protection; /* PROT_...: it may be left unreadable with data in it */
  int fd;
  uint32_t id;    /* changes when the memory is mapped anew */
  uint64_t pages, pages_max, stride;
  unsigned char *at;
  struct entry *entries;
  uint64_t versions; /* the sum over all entries */
};

/* Of all processes together. */
struct common {
  atomic_ulong wrong, checked, operations, children;
  atomic_uint next_id, next_salt;
  atomic_bool stopping;
};

extern struct common *all;
extern uint32_t my_salt;  /* of this process */
extern bool in_child;     /* of the main process: alone with its memory */
extern int my_rank;
extern long pause_us;

/* pages.c */
uint64_t mix(uint64_t a, uint64_t b);
uint64_t random_below(uint64_t limit);
void sleep_us(long us);
double seconds(void); /* CLOCK_MONOTONIC */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
unsigned char *page_of(const struct area *a, uint64_t page);
void set_entry(struct area *a, uint64_t page, struct entry entry);
void check_page(struct area *a, uint64_t page);
void write_page(struct area *a, uint64_t page);     /* all of it, after a check */
void write_part(struct area *a, uint64_t page);     /* 64 bytes */
void zero_page(struct area *a, uint64_t page);      /* by writing zeros */
void now_empty(struct area *a, uint64_t page, uint64_t count); /* the kernel took them back */
void fill_words(uint64_t *at, uint64_t words, uint64_t seed);
uint64_t first_wrong_word(const uint64_t *at, uint64_t words, uint64_t seed); /* or `words` */

/* areas.c */
void make_areas(uint64_t megabytes);
unsigned area_count(void);
struct area *area_number(unsigned number);
void operate(struct area *a); /* one random change; a->lock is held */
void check_area(struct area *a);
void drop_area(struct area *a); /* in a child: it has no further use for it */
void lock_all(void);
void unlock_all(void);
void lock_area(struct area *a);
void unlock_area(struct area *a);
void *worker_main(void *ticks);
void *sweeper_main(void *ticks);

/* main.c */
bool calm(void); /* for some seconds, then not for as long: nobody is to begin a process or a thread */

/* family.c */
void *forker_main(void *ticks);
void *threads_main(void *ticks);
void *aligned_stack_main(void *ticks);
void deep_stack(void); /* grows the stack of the calling thread by up to 4 MB */

/* channels.c */
void *loopback_main(void *ticks);
void *peer_main(void *ticks); /* the connection to the other container, from either end */
void *pipe_main(void *ticks);
void *events_main(void *ticks);

#endif
