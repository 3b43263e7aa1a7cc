// layer_program.c - what tests/lab/layer_test.py moves: it fills its writable root and its tmpfs
// mounts once, then keeps using them in every way that a move could break, and checks what it sees. Runs until /work/stop is
// there; says "RIGHT" and how much it did, or what was wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      printf("WRONG line %d: %s (%s)\n", __LINE__, #condition, strerror(errno));      \
      fflush(stdout);                                                                 \
      exit(1);                                                                        \
    }                                                                                 \
  } while (0)

static void put(const char* path, const char* text, size_t times) {
  FILE* file = fopen(path, "w");
  CHECK(file != NULL);
  for (size_t i = 0; i < times; ++i) fputs(text, file);
  CHECK(fclose(file) == 0);
}

static void fill(void) {
  char path[64];
  CHECK(mkdir("/data", 0751) == 0 && mkdir("/data/still", 0700) == 0);
  for (int i = 0; i < 500; ++i) {
    snprintf(path, sizeof path, "/data/still/small-%d", i);
    put(path, path, 1 + (size_t)i % 7);
  }
  put("/data/still/large", "0123456789abcde\n", 40000);
  CHECK(link("/data/still/large", "/data/still/second name") == 0);
  CHECK(link("/data/still/large", "/data/third-name") == 0);
  CHECK(symlink("../still/large", "/data/still/symlink") == 0);
  CHECK(mkfifo("/data/still/fifo", 0620) == 0);
  CHECK(setxattr("/data/still/large", "user.lifeboat", "a\0b", 3, 0) == 0);
  CHECK(setxattr("/data/still", "user.directory", "yes", 3, 0) == 0);
  int sparse = open("/data/still/sparse", O_RDWR | O_CREAT, 0604);
  CHECK(sparse >= 0 && ftruncate(sparse, 1LL << 34) == 0);
  CHECK(pwrite(sparse, "far", 3, 1LL << 33) == 3 && close(sparse) == 0);
  const struct timespec old[2] = {{1000000000, 123456789}, {987654321, 987654321}};
  CHECK(utimensat(AT_FDCWD, "/data/still/small-7", old, 0) == 0);
  // The image's own: one gone, one changed, a directory replaced.
  CHECK(unlink("/etc/nsswitch.conf") == 0);
  FILE* passwd = fopen("/etc/passwd", "a");
  CHECK(passwd != NULL && fputs("added:x:7:7::/:/bin/sh\n", passwd) > 0 && fclose(passwd) == 0);
  CHECK(rmdir("/var/tmp") == 0 && mkdir("/var/tmp", 0711) == 0);
  put("/var/tmp/inside", "inside", 1);
}

static void check_still(void) {
  struct stat a, b;
  char text[8] = "";
  CHECK(stat("/data/still/large", &a) == 0 && stat("/data/third-name", &b) == 0);
  CHECK(a.st_ino == b.st_ino && a.st_nlink == 3 && a.st_size == 640000);
  CHECK(getxattr("/data/still/large", "user.lifeboat", text, sizeof text) == 3 && memcmp(text, "a\0b", 3) == 0);
  CHECK(stat("/data/still/sparse", &a) == 0 && a.st_size == 1LL << 34 && a.st_blocks < 1000);
  CHECK(stat("/data/still/small-7", &a) == 0 && a.st_mtim.tv_nsec == 987654321 && a.st_mtim.tv_sec == 987654321);
  CHECK(access("/etc/nsswitch.conf", F_OK) != 0 && errno == ENOENT);
  CHECK(access("/etc/group", F_OK) == 0 && access("/var/tmp/inside", F_OK) == 0);
  CHECK(lstat("/data/still/fifo", &a) == 0 && S_ISFIFO(a.st_mode) && (a.st_mode & 0777) == 0620);
}

// A directory whose files are used all the time: in the root, and in a tmpfs.
struct live {
  const char* directory;
  int unlinked, renamed, log;
  volatile uint64_t* mapped;
};

static const char* in(const struct live* live, const char* name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", live->directory, name);
  return path;
}

static int open_new(const struct live* live, const char* name, int flags) {
  const int fd = open(in(live, name), O_RDWR | O_CREAT | flags, 0600);
  CHECK(fd >= 0);
  return fd;
}

static void start(struct live* live) {
  CHECK(mkdir(live->directory, 0755) == 0);
  live->unlinked = open_new(live, "unlinked", 0);
  CHECK(unlink(in(live, "unlinked")) == 0);
  // Without the name it was opened by, but with another.
  live->renamed = open_new(live, "first", 0);
  char other[128];
  strcpy(other, in(live, "other"));
  CHECK(link(in(live, "first"), other) == 0 && unlink(in(live, "first")) == 0);
  const int mapped = open_new(live, "mapped", 0);
  CHECK(ftruncate(mapped, 1 << 20) == 0);
  live->mapped = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
  CHECK(live->mapped != MAP_FAILED);
  live->log = open_new(live, "log", O_APPEND);
}

static void use(const struct live* live, uint64_t count) {
  char line[32];
  uint64_t seen;
  const int size = snprintf(line, sizeof line, "line %010llu\n", (unsigned long long)count);
  CHECK(write(live->log, line, (size_t)size) == size);
  CHECK(pwrite(live->unlinked, &count, 8, (off_t)(count % 10000) * 8) == 8);
  CHECK(pwrite(live->renamed, &count, 8, 0) == 8);
  live->mapped[count % 100000] = count;
  if (count == 0) return;
  CHECK(pread(live->unlinked, &seen, 8, (off_t)((count - 1) % 10000) * 8) == 8 && seen == count - 1);
  CHECK(live->mapped[(count - 1) % 100000] == count - 1);
}

// All of it, to the first byte.
static void check_all(const struct live* live, uint64_t count) {
  uint64_t seen;
  FILE* lines = fopen(in(live, "log"), "r");
  CHECK(lines != NULL);
  unsigned long long number;
  for (uint64_t i = 0; i < count; ++i) CHECK(fscanf(lines, "line %llu\n", &number) == 1 && number == i);
  const int other = open(in(live, "other"), O_RDONLY);
  CHECK(other >= 0 && pread(other, &seen, 8, 0) == 8 && seen == count - 1);
  for (uint64_t i = count > 10000 ? count - 10000 : 0; i < count; ++i) {
    CHECK(pread(live->unlinked, &seen, 8, (off_t)(i % 10000) * 8) == 8 && seen == i);
  }
  const int again = open(in(live, "mapped"), O_RDONLY);
  for (uint64_t i = count > 100000 ? count - 100000 : 0; i < count; ++i) {
    CHECK(pread(again, &seen, 8, (off_t)(i % 100000) * 8) == 8 && seen == i);
  }
}

// A connection to a name in a tmpfs, by which others connect, too.
struct talk {
  int listener, client, server;
};

static int connect_by_name(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
  const int client = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(client >= 0 && connect(client, (struct sockaddr*)&name, sizeof name) == 0);
  return client;
}

static void start_talk(struct talk* talk) {
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "/tmp/socket"};
  talk->listener = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(talk->listener >= 0 && bind(talk->listener, (struct sockaddr*)&name, sizeof name) == 0);
  CHECK(listen(talk->listener, 4) == 0);
  talk->client = connect_by_name();
  talk->server = accept(talk->listener, NULL, NULL);
  CHECK(talk->server >= 0);
}

static void check_talk(const struct talk* talk, uint64_t count) {
  uint64_t seen = 0;
  CHECK(write(talk->client, &count, 8) == 8 && read(talk->server, &seen, 8) == 8 && seen == count);
  if (count % 50 != 0) return;
  const int client = connect_by_name();
  const int server = accept(talk->listener, NULL, NULL);
  CHECK(server >= 0 && close(server) == 0 && close(client) == 0);
}

static void fill_tmpfs(void) {
  CHECK(mkdir("/tmp/still", 0700) == 0 && mkfifo("/tmp/still/fifo", 0620) == 0);
  put("/tmp/still/file", "0123456789abcde\n", 4000);
  CHECK(link("/tmp/still/file", "/tmp/still/link") == 0 && symlink("file", "/tmp/still/symlink") == 0);
  put("/run/note", "note", 1);
}

int main(void) {
  umask(0);
  fill();
  fill_tmpfs();
  struct live lives[] = {{.directory = "/data/live"}, {.directory = "/dev/shm/live"}};
  for (int i = 0; i < 2; ++i) start(&lives[i]);
  struct talk talk;
  start_talk(&talk);
  printf("READY\n");
  fflush(stdout);
  uint64_t count = 0;
  while (access("/work/stop", F_OK) != 0) {
    for (int i = 0; i < 2; ++i) use(&lives[i], count);
    check_talk(&talk, count);
    if (count % 50 == 0) check_still();
    ++count;
    const struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
  }
  check_still();
  for (int i = 0; i < 2; ++i) check_all(&lives[i], count);
  printf("RIGHT after %llu rounds\n", (unsigned long long)count);
  return 0;
}
