/* Makes one call of a program to the outside fail: a library to be preloaded into lifeboatd.
 *
 *   gcc -shared -fPIC -O1 -o fail_calls.so fail_calls.c
 *   LD_PRELOAD=fail_calls.so LIFEBOAT_FAIL_CALLS=FILE lifeboatd ...
 *
 * FILE is a `struct control`, shared with whoever says what is to fail. A *site* is a call together with the
 * innermost frames of its stack: the same line of code reached in the same way. While `state` is kList each
 * site that is reached is entered in the table; while it is kFail, the `nth` call of the site `wanted` fails
 * with the error that the table has for it, and with `stays` every later one, too.
 *
 * What cannot fail in a kernel that works (close, munmap, letting a traced task go, thawing) is left alone,
 * as is what cannot be undone by anybody (unlink, rmdir).
 */
#define _GNU_SOURCE
/* No headers that declare what is defined here with "...". */
#include <dlfcn.h>
#include <execinfo.h>
#include <errno.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { kFrames = 8, kSites = 4096, kName = 24, kModules = 64 };
enum { kIdle, kList, kFail };

struct site {
  uint64_t hash;
  _Atomic uint32_t count;
  uint32_t error;
  char call[kName];
  uint64_t frames[kFrames]; /* module << 48 | offset in it; module 0 is the program */
};

struct control {
  _Atomic uint32_t state, sites, seen, fired;
  uint64_t wanted;
  uint32_t nth, stays;
  struct site site[kSites];
};

static struct control *control;
static __thread int inside;
static struct { uintptr_t begin, end, base; } module[kModules];
static int modules;

static int enter_module(struct dl_phdr_info *info, size_t size, void *unused) {
  (void)size, (void)unused;
  if (modules == kModules) return 1;
  uintptr_t end = 0;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &info->dlpi_phdr[i];
    if (part->p_type == PT_LOAD && part->p_vaddr + part->p_memsz > end) end = part->p_vaddr + part->p_memsz;
  }
  module[modules].base = info->dlpi_addr;
  module[modules].begin = info->dlpi_addr;
  module[modules].end = info->dlpi_addr + end;
  modules++;
  return 0;
}

extern int open(const char *, int, unsigned);
extern void *mmap(void *, size_t, int, int, int, long);

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("LIFEBOAT_FAIL_CALLS");
  void *frames[1];
  inside = 1;
  unsetenv("LD_PRELOAD"); /* not for CRIU, crun and pagers */
  if (path != NULL) {
    const int fd = open(path, 2 /* O_RDWR */, 0);
    void *const at = fd < 0 ? (void *)-1 : mmap(NULL, sizeof *control, 3, 1 /* MAP_SHARED */, fd, 0);
    dl_iterate_phdr(enter_module, NULL);
    backtrace(frames, 1); /* loads what it needs */
    if (at != (void *)-1) control = at;
  }
  inside = 0;
}

static uint64_t place_of(void *address) {
  const uintptr_t at = (uintptr_t)address;
  for (int i = 0; i < modules; i++) {
    if (at >= module[i].begin && at < module[i].end) return (uint64_t)i << 48 | (at - module[i].base);
  }
  return (uint64_t)0xffff << 48;
}

static struct site *site_of(uint64_t hash) {
  const uint32_t known = atomic_load(&control->sites);
  for (uint32_t i = 0; i < known && i < kSites; i++) {
    if (control->site[i].hash == hash) return &control->site[i];
  }
  return NULL;
}

static int fails(const char *call, int error) {
  enum { kSkip = 2 }; /* this and the wrapper */
  void *stack[kFrames + kSkip];
  uint64_t frames[kFrames] = {0}, hash = 14695981039346656037u;
  uint32_t state;
  int failing = 0;
  if (control == NULL || inside || (state = atomic_load(&control->state)) == kIdle) return 0;
  inside = 1;
  const int depth = backtrace(stack, kFrames + kSkip);
  for (const char *c = call; *c != 0; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
  for (int i = kSkip; i < depth; i++) {
    frames[i - kSkip] = place_of(stack[i]);
    hash = (hash ^ frames[i - kSkip]) * 1099511628211u;
  }
  if (state == kFail && hash == control->wanted) {
    const uint32_t number = atomic_fetch_add(&control->seen, 1) + 1;
    failing = number == control->nth || (control->stays && number > control->nth);
    if (failing) atomic_fetch_add(&control->fired, 1);
  } else if (state == kList) {
    struct site *site = site_of(hash);
    if (site == NULL) {
      const uint32_t at = atomic_fetch_add(&control->sites, 1);
      if (at < kSites) {
        site = &control->site[at];
        site->error = (uint32_t)error;
        strncpy(site->call, call, kName - 1);
        memcpy(site->frames, frames, sizeof frames);
        site->hash = hash;
      }
    }
    if (site != NULL) atomic_fetch_add(&site->count, 1);
  }
  inside = 0;
  return failing;
}

#define WRAP_IF(condition, type, name, error, params, args)                        \
  type name params {                                                               \
    static type(*real) params;                                                     \
    if (real == NULL) real = (type(*) params)dlsym(RTLD_NEXT, #name);              \
    if ((condition) && fails(#name, error)) {                                      \
      errno = error;                                                               \
      return (type)-1;                                                             \
    }                                                                              \
    return real args;                                                              \
  }
#define WRAP(type, name, error, params, args) WRAP_IF(1, type, name, error, params, args)

/* ---- files */
WRAP(int, open, EMFILE, (const char *p, int f, unsigned m), (p, f, m))
WRAP(int, open64, EMFILE, (const char *p, int f, unsigned m), (p, f, m))
WRAP(int, openat, EMFILE, (int d, const char *p, int f, unsigned m), (d, p, f, m))
WRAP(int, openat64, EMFILE, (int d, const char *p, int f, unsigned m), (d, p, f, m))
WRAP(long, read, EIO, (int fd, void *b, size_t n), (fd, b, n))
WRAP(long, pread, EIO, (int fd, void *b, size_t n, long o), (fd, b, n, o))
WRAP(long, pread64, EIO, (int fd, void *b, size_t n, long o), (fd, b, n, o))
WRAP(long, readv, EIO, (int fd, const void *v, int n), (fd, v, n))
WRAP(long, preadv, EIO, (int fd, const void *v, int n, long o), (fd, v, n, o))
/* Not what thaws a cgroup: a kernel that works does that. */
WRAP_IF(!(n == 1 && ((const char *)b)[0] == '0'), long, pwrite, ENOSPC, (int fd, const void *b, size_t n, long o),
        (fd, b, n, o))
WRAP(long, pwrite64, ENOSPC, (int fd, const void *b, size_t n, long o), (fd, b, n, o))
WRAP(long, writev, ENOSPC, (int fd, const void *v, int n), (fd, v, n))
WRAP(long, pwritev, ENOSPC, (int fd, const void *v, int n, long o), (fd, v, n, o))
WRAP(int, mkdir, ENOSPC, (const char *p, unsigned m), (p, m))
WRAP(int, mkdirat, ENOSPC, (int d, const char *p, unsigned m), (d, p, m))
WRAP(int, mknod, ENOSPC, (const char *p, unsigned m, unsigned long d), (p, m, d))
WRAP(int, symlink, ENOSPC, (const char *a, const char *b), (a, b))
WRAP(int, linkat, ENOSPC, (int a, const char *p, int b, const char *q, int f), (a, p, b, q, f))
WRAP(int, rename, EIO, (const char *a, const char *b), (a, b))
WRAP(int, ftruncate, ENOSPC, (int fd, long n), (fd, n))
WRAP(int, fallocate, ENOSPC, (int fd, int m, long o, long n), (fd, m, o, n))
WRAP(int, fsync, EIO, (int fd), (fd))
WRAP(int, fdatasync, EIO, (int fd), (fd))
WRAP(int, lchown, EIO, (const char *p, unsigned u, unsigned g), (p, u, g))
WRAP(int, chown, EIO, (const char *p, unsigned u, unsigned g), (p, u, g))
WRAP(int, lsetxattr, ENOSPC, (const char *p, const char *n, const void *v, size_t s, int f), (p, n, v, s, f))

WRAP(long, write, ENOSPC, (int fd, const void *b, size_t n), (fd, b, n))

/* ---- descriptors */
enum { kDupFd = 0, kDupFdCloexec = 1030, kSetPipeSize = 1031 };
WRAP_IF(c == kDupFd || c == kDupFdCloexec || c == kSetPipeSize, int, fcntl, EMFILE, (int fd, int c, long a),
        (fd, c, a))
WRAP_IF(c == kDupFd || c == kDupFdCloexec || c == kSetPipeSize, int, fcntl64, EMFILE, (int fd, int c, long a),
        (fd, c, a))
WRAP(int, dup, EMFILE, (int fd), (fd))
WRAP(int, dup2, EMFILE, (int a, int b), (a, b))
WRAP(int, pipe, EMFILE, (int *fds), (fds))
WRAP(int, pipe2, EMFILE, (int *fds, int f), (fds, f))
WRAP(int, eventfd, EMFILE, (unsigned n, int f), (n, f))
WRAP(int, timerfd_create, EMFILE, (int c, int f), (c, f))
WRAP(int, memfd_create, EMFILE, (const char *n, unsigned f), (n, f))
WRAP(int, epoll_ctl, ENOMEM, (int e, int o, int fd, void *v), (e, o, fd, v))

/* ---- network */
WRAP(int, socket, EMFILE, (int d, int t, int p), (d, t, p))
WRAP(int, socketpair, EMFILE, (int d, int t, int p, int *fds), (d, t, p, fds))
WRAP(int, connect, ETIMEDOUT, (int fd, const void *a, unsigned n), (fd, a, n))
WRAP(int, accept, EMFILE, (int fd, void *a, void *n), (fd, a, n))
WRAP(int, accept4, EMFILE, (int fd, void *a, void *n, int f), (fd, a, n, f))
WRAP(int, bind, EADDRINUSE, (int fd, const void *a, unsigned n), (fd, a, n))
WRAP(int, listen, EADDRINUSE, (int fd, int n), (fd, n))
WRAP(int, setsockopt, ENOMEM, (int fd, int l, int o, const void *v, unsigned n), (fd, l, o, v, n))
WRAP(long, send, ECONNRESET, (int fd, const void *b, size_t n, int f), (fd, b, n, f))
WRAP(long, sendto, ENOBUFS, (int fd, const void *b, size_t n, int f, const void *a, unsigned s), (fd, b, n, f, a, s))
WRAP(long, sendmsg, ECONNRESET, (int fd, const void *m, int f), (fd, m, f))
WRAP(long, recv, ECONNRESET, (int fd, void *b, size_t n, int f), (fd, b, n, f))
WRAP(long, recvfrom, ENOBUFS, (int fd, void *b, size_t n, int f, void *a, void *s), (fd, b, n, f, a, s))
WRAP(long, recvmsg, ECONNRESET, (int fd, void *m, int f), (fd, m, f))

/* ---- processes, memory, namespaces */
enum { kSeize = 0x4206, kFutex = 202, kGetTid = 186, kPidfdSendSignal = 424, kNonBlocking = 0x5421 };
WRAP(int, fork, EAGAIN, (void), ())
WRAP(int, execvpe, ENOMEM, (const char *p, char *const *a, char *const *e), (p, a, e))
WRAP_IF(r == kSeize, long, ptrace, EPERM, (int r, int p, void *a, void *d), (r, p, a, d))
WRAP(long, process_vm_readv, ENOMEM,
     (int p, const void *l, unsigned long n, const void *r, unsigned long m, unsigned long f), (p, l, n, r, m, f))
WRAP(void *, mmap, ENOMEM, (void *a, size_t n, int p, int f, int fd, long o), (a, n, p, f, fd, o))
WRAP(void *, mmap64, ENOMEM, (void *a, size_t n, int p, int f, int fd, long o), (a, n, p, f, fd, o))
WRAP_IF(r != kNonBlocking, int, ioctl, ENOMEM, (int fd, unsigned long r, void *a), (fd, r, a))
WRAP_IF(n != kFutex && n != kGetTid && n != kPidfdSendSignal, long, syscall, ENOMEM,
        (long n, long a, long b, long c, long d, long e, long f), (n, a, b, c, d, e, f))
WRAP(int, setns, ENOMEM, (int fd, int t), (fd, t))
WRAP(int, unshare, ENOMEM, (int f), (f))
WRAP(int, mount, ENOMEM, (const char *s, const char *t, const char *k, unsigned long f, const void *d),
     (s, t, k, f, d))
WRAP(int, open_tree, ENOMEM, (int d, const char *p, unsigned f), (d, p, f))
WRAP(int, move_mount, ENOMEM, (int a, const char *p, int b, const char *q, unsigned f), (a, p, b, q, f))
WRAP(int, fsopen, ENOMEM, (const char *n, unsigned f), (n, f))
WRAP(int, fsconfig, ENOMEM, (int fd, unsigned c, const char *k, const void *v, int a), (fd, c, k, v, a))
WRAP(int, fsmount, ENOMEM, (int fd, unsigned f, unsigned a), (fd, f, a))

/* ---- those that tell an error in another way */
#define WRAP_POINTER(name, error, params, args)                     \
  void *name params {                                               \
    static void *(*real)params;                                     \
    if (real == NULL) real = (void *(*)params)dlsym(RTLD_NEXT, #name); \
    if (fails(#name, error)) {                                      \
      errno = error;                                                \
      return NULL;                                                  \
    }                                                               \
    return real args;                                               \
  }
WRAP_POINTER(fopen, EMFILE, (const char *p, const char *m), (p, m))
WRAP_POINTER(fopen64, EMFILE, (const char *p, const char *m), (p, m))
WRAP_POINTER(opendir, EMFILE, (const char *p), (p))
WRAP_POINTER(fdopendir, ENOMEM, (int fd), (fd))

int pthread_create(void *t, const void *a, void *(*f)(void *), void *d) {
  static int (*real)(void *, const void *, void *(*)(void *), void *);
  if (real == NULL) real = (int (*)(void *, const void *, void *(*)(void *), void *))dlsym(RTLD_NEXT, "pthread_create");
  return fails("pthread_create", EAGAIN) ? EAGAIN : real(t, a, f, d);
}
