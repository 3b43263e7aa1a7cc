#define _GNU_SOURCE
#include "rank.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void pause_us(long us) {
  const struct timespec t = {us / 1000000, us % 1000000 * 1000};
  nanosleep(&t, NULL);
}

int redirect(const char *prefix, int rank) {
  char log[512];
  snprintf(log, sizeof log, "%s%d", prefix, rank);
  const int null = open("/dev/null", O_RDONLY);
  const int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (null < 0 || file < 0) return -1;
  if (dup2(null, 0) < 0 || dup2(file, 1) < 0 || dup2(file, 2) < 0) return -1;
  close(null);
  close(file);
  setvbuf(stdout, NULL, _IOLBF, 0);
  return 0;
}

int own_address(const char *interface, struct sockaddr_in *out) {
  struct ifaddrs *all = NULL;
  int found = -1;
  if (getifaddrs(&all) != 0) return -1;
  for (struct ifaddrs *i = all; i != NULL && found != 0; i = i->ifa_next) {
    if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET) continue;
    if (strcmp(i->ifa_name, interface) != 0) continue;
    memcpy(out, i->ifa_addr, sizeof *out);
    out->sin_port = 0;
    found = 0;
  }
  freeifaddrs(all);
  if (found != 0) errno = ENODEV;
  return found;
}
