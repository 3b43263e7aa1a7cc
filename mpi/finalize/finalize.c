/* liblifeboat-finalize.so - lets MPI_Finalize of MPICH before 4.2 end (preloaded into ranks).
 *
 * MPICH's ch4:ucx disconnects all endpoints in MPI_Finalize and then waits in a PMI barrier, that
 * is in read(2), without driving UCX. A rank that still disconnects needs its peers to drive UCX,
 * so sometimes it waits for ever (pmodels/mpich pull request 6596 removed the barrier). Measured
 * here with Debian 12's MPICH 4.0.2, 4 ranks over TCP, no containers, no migration: 9 of 25 runs
 * of HPL hang at the end.
 *
 * The cure: from the first disconnect on, a read(2) that would block drives UCX while it waits.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

typedef void *ucp_worker_h;
typedef void *ucp_ep_h;

static ucp_worker_h worker;
static int finalizing;

int ucp_worker_create(void *context, const void *params, ucp_worker_h *created) {
  int (*real)(void *, const void *, ucp_worker_h *) =
      (int (*)(void *, const void *, ucp_worker_h *))dlsym(RTLD_NEXT, "ucp_worker_create");
  int status = real(context, params, created);
  if (status == 0) worker = *created;
  return status;
}

void ucp_worker_destroy(ucp_worker_h gone) {
  void (*real)(ucp_worker_h) = (void (*)(ucp_worker_h))dlsym(RTLD_NEXT, "ucp_worker_destroy");
  if (gone == worker) worker = NULL;
  real(gone);
}

/* MPICH calls this only in MPI_Finalize (and when processes spawned at run time disconnect). */
void *ucp_disconnect_nb(ucp_ep_h endpoint) {
  void *(*real)(ucp_ep_h) = (void *(*)(ucp_ep_h))dlsym(RTLD_NEXT, "ucp_disconnect_nb");
  finalizing = 1;
  return real(endpoint);
}

/* The kernel's read, without going through ourselves. */
static ssize_t kernel_read(int fd, void *buffer, size_t size) {
  static ssize_t (*real)(int, void *, size_t);
  if (real == NULL) real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
  return real(fd, buffer, size);
}

ssize_t read(int fd, void *buffer, size_t size) {
  /* UCX reads its own descriptors while it is driven: those go straight to the kernel. */
  static __thread int driving;
  if (finalizing && !driving && worker != NULL) {
    static unsigned (*progress)(ucp_worker_h);
    if (progress == NULL) {
      progress = (unsigned (*)(ucp_worker_h))dlsym(RTLD_DEFAULT, "ucp_worker_progress");
    }
    struct pollfd wait = {fd, POLLIN, 0};
    driving = 1;
    while (progress != NULL && poll(&wait, 1, 1) == 0) progress(worker);
    driving = 0;
  }
  return kernel_read(fd, buffer, size);
}
