/* Most of the time in vfork(): its child waits before it runs another program. */
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void wait_ms(long ms) {
  struct timespec time = {0, ms * 1000000};
  nanosleep(&time, NULL);
}

int main(void) {
  for (int n = 0;; ++n) {
    pid_t child = vfork();
    if (child == 0) {
      wait_ms(90);
      execl("/bin/true", "true", (char *)NULL);
      _exit(1);
    }
    waitpid(child, NULL, 0);
    printf("tick %d\n", n);
    fflush(stdout);
    wait_ms(10);
  }
}
