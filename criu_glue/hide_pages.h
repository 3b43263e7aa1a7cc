/* hide_pages.h - the list through which Lifeboat tells liblifeboat-criu.so which memory CRIU shall
 * not see, which files without a name it shall take for others, and where the text of a
 * process's smaps is that has been read already. It lies in a memfd that both sides map: the daemon
 * fills it, at the latest before it sends the request to CRIU; the library counts what it did, so
 * that the daemon can check.
 *
 * Plain C, as the library must load into any CRIU without a C++ runtime. */
#pragma once

#include <stdint.h>

#define LIFEBOAT_HIDE_VARIABLE "LIFEBOAT_HIDE_FD" /* decimal number of the memfd */
#define LIFEBOAT_HIDE_MAGIC UINT64_C(0x4c42484944453031)
#define LIFEBOAT_HIDE_VERSION 4u

/* Addresses of one process, multiples of the page size, `end` excluded. */
struct lifeboat_hidden_range {
  uint32_t pid; /* as in the /proc that CRIU reads */
  uint32_t reserved;
  uint64_t start;
  uint64_t end;
};

/* The text of /proc/PID/smaps of a frozen process. */
#define LIFEBOAT_TEXTS_MAX 1024u
enum { LIFEBOAT_TEXT_NONE, LIFEBOAT_TEXT_READING, LIFEBOAT_TEXT_READY };
struct lifeboat_text {
  uint32_t pid;
  uint32_t state;
  char path[56]; /* of the file that has it once it is ready; in the /proc that CRIU reads */
};

/* A file that has lost its name, and the one it had; without one: anonymous shared memory, which is to seem an
 * ordinary file. */
#define LIFEBOAT_FILES_MAX 256u
struct lifeboat_file {
  uint64_t device;
  uint64_t inode;
  char path[240]; /* from the container's root on */
};

/* Fixed-width fields only: the two sides are built by different compilers. */
struct lifeboat_hide_list {
  uint64_t magic;
  uint32_t version;
  uint32_t capacity; /* entries that fit into the file */
  uint64_t count;    /* entries in use: sorted by {pid, start}, not overlapping */
  /* Written by the library. */
  uint64_t loads;         /* it has been loaded and sees this list */
  uint64_t scans;         /* looks for present pages: PAGEMAP_SCAN, reads of pagemap */
  uint64_t hidden_scans;  /* of these: part or all of the area was hidden */
  uint64_t hidden_ranges; /* ranges left out, summed over all scans */
  uint64_t unknown_scans; /* of a file whose process could not be told: passed through */
  uint64_t texts_used;    /* smaps that CRIU got from here */
  uint64_t files_named;   /* times that CRIU looked at such a file and was told something else */
  uint64_t file_count;    /* in use; not written by the library */
  struct lifeboat_file files[LIFEBOAT_FILES_MAX];
  struct lifeboat_text texts[LIFEBOAT_TEXTS_MAX];
  struct lifeboat_hidden_range ranges[];
};
