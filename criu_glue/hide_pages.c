/* hide_pages.c - liblifeboat-criu.so, preloaded into `criu swrk` for a dump: keeps the pages that
 * Lifeboat moves by itself out of CRIU's sight, so that CRIU neither reads nor writes them.
 *
 * CRIU asks the kernel which pages of a mapping are there by ioctl(PAGEMAP_SCAN) on
 * /proc/PID/pagemap, or reads that file where the kernel has no such call (before Linux 6.7;
 * criu/pagemap-cache.c). Both are answered here for everything but listed ranges; in those, no page
 * seems to be there. Nothing else changes: the mappings themselves come
 * from smaps, and a scan for guard regions (criu/mem.c, collect_madv_guards) must see all.
 *
 * Besides, it gives CRIU the text of smaps that has been read for it (smaps_ahead.hpp). Where there is
 * none it makes CRIU read smaps in pieces. The kernel composes the text mapping by mapping
 * in one page; what does not fit any more is thrown away and composed again by the next read, and
 * to compose it means to walk all its page tables: 11 ms for 1 GB. A read that is shorter than the
 * text of one mapping ends before that happens.
 *
 * And files that Lifeboat carries as files, shared memory that has lost its name, seem to have it
 * still: CRIU would copy their contents into its images ("ghosts") and out of them again. It looks at
 * such a file by fstat(), which says that it has no name, by readlink(), which says so at the end of
 * the name it had, and whether what has that name now is the same file. Anonymous shared memory, of which CRIU
 * would copy the contents as well, it knows by its device; on another one it is a file like others, which CRIU may
 * have been told to leave to us.
 *
 * Whatever is not as expected passes through untouched. Then CRIU dumps too much, which costs time
 * and is found by the check of its images (pagemap_image.hpp), but never too little. */
#define _GNU_SOURCE
#include "hide_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* From <linux/fs.h>, which older systems have without these. */
struct pm_scan {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct scan_region {
  uint64_t start, end, categories;
};
#define SCAN_REQUEST _IOWR('f', 16, struct pm_scan)
#define IS_PRESENT (UINT64_C(1) << 3)
#define IS_GUARD (UINT64_C(1) << 8)
#define PAGE_BYTES UINT64_C(4096)
/* No file system has this device number, nor has CRIU a meaning for it. */
#define ELSEWHERE UINT64_C(0xfffffffe)
/* Less than smaps has for any mapping (about 700 bytes). */
#define SMAPS_READ_BYTES ((size_t)512)

static struct lifeboat_hide_list *list;
static int list_fd = -1;
static int smaps_fd = -1; /* CRIU reads one at a time */

static void count(uint64_t *counter, uint64_t by) {
  (void)__atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

static void map_list(int fd) {
  struct stat file;
  if (fstat(fd, &file) != 0 || file.st_size < (off_t)sizeof *list) return;
  void *memory = mmap(NULL, (size_t)file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return;
  struct lifeboat_hide_list *found = memory;
  const uint64_t room = ((uint64_t)file.st_size - sizeof *found) / sizeof found->ranges[0];
  if (found->magic != LIFEBOAT_HIDE_MAGIC || found->version != LIFEBOAT_HIDE_VERSION ||
      found->capacity > room) {
    (void)munmap(memory, (size_t)file.st_size);
    return;
  }
  list = found;
  count(&list->loads, 1);
}

__attribute__((constructor)) static void load(void) {
  const char *text = getenv(LIFEBOAT_HIDE_VARIABLE);
  if (text == NULL) return;
  char *end = NULL;
  errno = 0;
  const long fd = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || fd < 0 || fd > INT32_MAX) return;
  map_list((int)fd);
  if (list != NULL) list_fd = (int)fd;
}

/* What CRIU itself starts (ip, iptables, tar) is none of our business. But `criu` may be a script
 * around the real one, which is preloaded like that script's shell: only who scans is CRIU. */
static void keep_to_ourselves(void) {
  if (list_fd < 0) return;
  (void)syscall(SYS_close, list_fd);
  list_fd = -1;
  (void)unsetenv(LIFEBOAT_HIDE_VARIABLE);
  (void)unsetenv("LD_PRELOAD");
}

/* The process of "/proc/1234" or "/proc/1234/task/1235", where /proc may be mounted elsewhere. 0: it is
 * no such path. */
static uint32_t pid_of_directory(char *path) {
  char *number = strrchr(path, '/');
  if (number == NULL) return 0;
  if (number - path > 5 && memcmp(number - 5, "/task", 5) == 0) {
    number[-5] = '\0';
    number = strrchr(path, '/');
    if (number == NULL) return 0;
  }
  ++number;
  char *end = NULL;
  errno = 0;
  const unsigned long pid = strtoul(number, &end, 10);
  if (errno != 0 || *number < '1' || *number > '9' || *end != '\0' || pid > INT32_MAX) return 0;
  return (uint32_t)pid;
}

/* The process that a file "pagemap" or "smaps", called `name` with its slash, is of; 0: it is no such
 * file. CRIU opens it below an O_PATH descriptor of /proc/1234; the link names the place all the
 * same. */
static uint32_t pid_of(int fd, const char *name) {
  char link[64];
  char path[256];
  (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0 || size >= (ssize_t)sizeof path - 1) return 0;
  path[size] = '\0';
  char *last = strrchr(path, '/');
  if (last == NULL || strcmp(last, name) != 0) return 0;
  *last = '\0';
  return pid_of_directory(path);
}

/* The first entry of `pid` that ends after `address`, or what comes behind it. */
static uint64_t first_range(uint32_t pid, uint64_t address, uint64_t ranges) {
  uint64_t low = 0;
  uint64_t high = ranges;
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    const struct lifeboat_hidden_range *range = &list->ranges[middle];
    if (range->pid < pid || (range->pid == pid && range->end <= address)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* What is filled of the caller's array so far. */
struct progress {
  uint64_t regions;
  uint64_t pages;
};

/* The real scan of [from, to). 1: done; 0: stopped early, walk_end is set; -1: error. */
static int scan_gap(int fd, struct pm_scan *wanted, uint64_t from, uint64_t to,
                    struct progress *done) {
  if (from >= to) return 1;
  if (done->regions == wanted->vec_len ||
      (wanted->max_pages != 0 && done->pages >= wanted->max_pages)) {
    wanted->walk_end = from;
    return 0;
  }
  struct pm_scan part = *wanted;
  struct scan_region *regions = (struct scan_region *)(uintptr_t)wanted->vec + done->regions;
  part.start = from;
  part.end = to;
  part.vec = (uint64_t)(uintptr_t)regions;
  part.vec_len = wanted->vec_len - done->regions;
  if (wanted->max_pages != 0) part.max_pages = wanted->max_pages - done->pages;
  const long found = syscall(SYS_ioctl, fd, SCAN_REQUEST, &part);
  if (found < 0) return -1;
  for (long i = 0; i < found; ++i) {
    done->pages += (regions[i].end - regions[i].start) / PAGE_BYTES;
  }
  done->regions += (uint64_t)found;
  if (part.walk_end >= to) return 1;
  wanted->walk_end = part.walk_end;
  return 0;
}

/* The scan without the ranges of `pid` from number `index` on. */
static int scan_around(int fd, struct pm_scan *wanted, uint32_t pid, uint64_t index,
                       uint64_t ranges) {
  struct progress done = {0, 0};
  uint64_t at = wanted->start;
  uint64_t hidden = 0;
  int state = 1;
  for (; index < ranges && state == 1; ++index) {
    const struct lifeboat_hidden_range *range = &list->ranges[index];
    if (range->pid != pid || range->start >= wanted->end) break;
    state = scan_gap(fd, wanted, at, range->start, &done);
    if (state == 1) {
      at = range->end;
      ++hidden;
    }
  }
  if (state == 1) state = scan_gap(fd, wanted, at, wanted->end, &done);
  if (state < 0) return -1;
  if (state == 1) wanted->walk_end = wanted->end;
  count(&list->hidden_scans, 1);
  count(&list->hidden_ranges, hidden);
  return (int)done.regions;
}

/* Only what asks for present pages, and into an array; a scan for guard regions must see all. */
static bool asks_for_pages(const struct pm_scan *scan) {
  return scan->size == sizeof *scan && scan->flags == 0 && scan->vec != 0 && scan->vec_len != 0 &&
         scan->vec_len <= INT32_MAX && (scan->category_anyof_mask & IS_PRESENT) != 0 &&
         (scan->category_mask & IS_GUARD) == 0;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);

  struct pm_scan *scan = argument;
  if (list != NULL && request == SCAN_REQUEST && scan != NULL && asks_for_pages(scan)) {
    keep_to_ourselves();
    count(&list->scans, 1);
    const int saved = errno;
    const uint32_t pid = pid_of(fd, "/pagemap");
    errno = saved;
    if (pid == 0) count(&list->unknown_scans, 1);
    uint64_t ranges = __atomic_load_n(&list->count, __ATOMIC_ACQUIRE);
    if (ranges > list->capacity) ranges = 0;
    const uint64_t index = first_range(pid, scan->start, ranges);
    if (pid != 0 && index < ranges && list->ranges[index].pid == pid &&
        list->ranges[index].start < scan->end) {
      return scan_around(fd, scan, pid, index, ranges);
    }
  }
  return (int)syscall(SYS_ioctl, fd, request, argument);
}

/* A descriptor of the text of these smaps that has been read ahead; -1: there is none. */
static int text_of(uint32_t pid) {
  const struct timespec pause = {0, 100 * 1000};
  for (uint32_t i = 0; pid != 0 && i < LIFEBOAT_TEXTS_MAX; ++i) {
    struct lifeboat_text *text = &list->texts[i];
    uint32_t state = __atomic_load_n(&text->state, __ATOMIC_ACQUIRE);
    if (state == LIFEBOAT_TEXT_NONE || text->pid != pid) continue;
    /* Reading it here would take as long. Whoever reads it may die over it. */
    while (state == LIFEBOAT_TEXT_READING && access(text->path, F_OK) == 0) {
      (void)nanosleep(&pause, NULL);
      state = __atomic_load_n(&text->state, __ATOMIC_ACQUIRE);
    }
    if (state != LIFEBOAT_TEXT_READY || text->pid != pid) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, text->path, O_RDONLY | O_CLOEXEC, 0);
  }
  return -1;
}

/* CRIU has opened the smaps of a process. */
static int replace_smaps(int fd) {
  const int saved = errno;
  const int text = text_of(pid_of(fd, "/smaps"));
  errno = saved;
  if (text < 0) {
    smaps_fd = fd;
    return fd;
  }
  (void)syscall(SYS_close, fd);
  count(&list->texts_used, 1);
  return text;
}

/* What was read of the file, without the hidden pages. `got` bytes from the entry of `start` on. */
static void blank(uint64_t *entries, uint64_t start, uint64_t got, uint32_t pid, uint64_t index,
                  uint64_t ranges) {
  const uint64_t end = start + got / sizeof *entries * PAGE_BYTES;
  uint64_t hidden = 0;
  for (; index < ranges; ++index, ++hidden) {
    const struct lifeboat_hidden_range *range = &list->ranges[index];
    if (range->pid != pid || range->start >= end) break;
    const uint64_t from = range->start > start ? range->start : start;
    const uint64_t to = range->end < end ? range->end : end;
    memset(entries + (from - start) / PAGE_BYTES, 0,
           (size_t)((to - from) / PAGE_BYTES * sizeof *entries));
  }
  count(&list->hidden_scans, 1);
  count(&list->hidden_ranges, hidden);
}

/* Whole entries only; CRIU reads no others. */
static bool asks_for_entries(size_t size, off64_t offset) {
  return size != 0 && size % sizeof(uint64_t) == 0 && offset >= 0 &&
         (uint64_t)offset % sizeof(uint64_t) == 0;
}

__attribute__((visibility("default"))) ssize_t pread64(int fd, void *buffer, size_t size,
                                                       off64_t offset) {
  const int saved = errno;
  const uint32_t pid = list != NULL && asks_for_entries(size, offset) ? pid_of(fd, "/pagemap") : 0;
  errno = saved;
  if (pid == 0) {
    return (ssize_t)syscall(SYS_pread64, fd, buffer, size, offset);
  }
  keep_to_ourselves();
  count(&list->scans, 1);
  uint64_t ranges = __atomic_load_n(&list->count, __ATOMIC_ACQUIRE);
  if (ranges > list->capacity) ranges = 0;
  const uint64_t start = (uint64_t)offset / sizeof(uint64_t) * PAGE_BYTES;
  const uint64_t end = start + size / sizeof(uint64_t) * PAGE_BYTES;
  const uint64_t index = first_range(pid, start, ranges);
  if (index < ranges && list->ranges[index].pid == pid && list->ranges[index].start <= start &&
      list->ranges[index].end >= end) {
    blank(buffer, start, size, pid, index, ranges); /* no need to look at all */
    return (ssize_t)size;
  }
  const ssize_t got = (ssize_t)syscall(SYS_pread64, fd, buffer, size, offset);
  if (got > 0 && index < ranges && list->ranges[index].pid == pid &&
      list->ranges[index].start < end) {
    blank(buffer, start, (uint64_t)got, pid, index, ranges);
  }
  return got;
}

__attribute__((visibility("default"))) int openat64(int directory, const char *path, int flags,
                                                    ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    mode = va_arg(arguments, mode_t);
    va_end(arguments);
  }
  const int fd = (int)syscall(SYS_openat, directory, path, flags, mode);
  const bool smaps = list != NULL && fd >= 0 && strcmp(path, "smaps") == 0;
  return smaps ? replace_smaps(fd) : fd;
}

__attribute__((visibility("default"))) int close(int fd) {
  if (fd == smaps_fd) smaps_fd = -1;
  return (int)syscall(SYS_close, fd);
}

__attribute__((visibility("default"))) ssize_t read(int fd, void *buffer, size_t size) {
  if (fd == smaps_fd && fd >= 0 && size > SMAPS_READ_BYTES) size = SMAPS_READ_BYTES;
  return (ssize_t)syscall(SYS_read, fd, buffer, size);
}

/* The file of the list that this is; NULL: none. */
static const struct lifeboat_file *listed_file(const struct stat64 *found) {
  if (list == NULL || found->st_nlink != 0) return NULL;
  uint64_t files = __atomic_load_n(&list->file_count, __ATOMIC_ACQUIRE);
  if (files > LIFEBOAT_FILES_MAX) files = 0;
  for (uint64_t i = 0; i < files; ++i) {
    const struct lifeboat_file *file = &list->files[i];
    if (file->device == found->st_dev && file->inode == found->st_ino) return file;
  }
  return NULL;
}

__attribute__((visibility("default"))) int fstat64(int fd, struct stat64 *out) {
  if (syscall(SYS_newfstatat, fd, "", out, AT_EMPTY_PATH) != 0) return -1;
  const struct lifeboat_file *file = listed_file(out);
  if (file == NULL) return 0;
  if (file->path[0] == '\0') {
    out->st_dev = ELSEWHERE;
  } else {
    out->st_nlink = 1;
  }
  count(&list->files_named, 1);
  return 0;
}

__attribute__((visibility("default"))) int fstatat64(int directory, const char *path, struct stat64 *out,
                                                     int flags) {
  const int result = (int)syscall(SYS_newfstatat, directory, path, out, flags);
  /* "./dev/shm/name", below the root directory of the container */
  if (result == 0 || errno != ENOENT || list == NULL || path[0] != '.') return result;
  uint64_t files = __atomic_load_n(&list->file_count, __ATOMIC_ACQUIRE);
  if (files > LIFEBOAT_FILES_MAX) files = 0;
  for (uint64_t i = 0; i < files; ++i) {
    const struct lifeboat_file *file = &list->files[i];
    if (file->path[0] == '\0' || strcmp(path + 1, file->path) != 0) continue;
    memset(out, 0, sizeof *out);
    out->st_dev = file->device;
    out->st_ino = file->inode;
    out->st_nlink = 1;
    out->st_mode = S_IFREG;
    return 0;
  }
  return result;
}

__attribute__((visibility("default"))) ssize_t readlink(const char *path, char *buffer, size_t size) {
  static const char kOwn[] = "/proc/self/fd/";
  static const char kDeleted[] = " (deleted)";
  const ssize_t got = (ssize_t)syscall(SYS_readlinkat, AT_FDCWD, path, buffer, size);
  const ssize_t end = (ssize_t)sizeof kDeleted - 1;
  if (list == NULL || got <= end || memcmp(buffer + got - end, kDeleted, (size_t)end) != 0) return got;
  if (strncmp(path, kOwn, sizeof kOwn - 1) != 0) return got;
  char *rest = NULL;
  const unsigned long fd = strtoul(path + sizeof kOwn - 1, &rest, 10);
  struct stat64 found;
  if (*rest != '\0' || fd > INT32_MAX || syscall(SYS_newfstatat, (int)fd, "", &found, AT_EMPTY_PATH) != 0) {
    return got;
  }
  return listed_file(&found) != NULL ? got - end : got;
}
