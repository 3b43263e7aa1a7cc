/* The main program of xhpl: HPL as it is inside hpcc, run alone.
 *
 *   xhpl [--until FILE] [INPUT [OUTPUT]]
 *
 * With --until the tests of INPUT are run again and again until the first rank
 * finds FILE: a job that lasts as long as what is done to it.
 *
 * INPUT is a file in HPL.dat format, hpccinf.txt if not given. The results go
 * to OUTPUT if given, else where the file says ("device out": 6 stdout, 7
 * stderr, anything else the file named in the line above), as in HPL itself.
 *
 * hpcc's HPL has its two file names built in and no `main`. Its source is used
 * as it came: the linker routes its fopen calls here (--wrap=fopen), where the
 * two names get the meaning above.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hpcc.h"

static const char *input = "hpccinf.txt";
static const char *output = NULL;

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

/* What lines 3 and 4 of the input say, or NULL if the file cannot be opened. */
static FILE *open_results(const char *mode) {
  char line[HPL_LINE_MAX], name[HPL_LINE_MAX] = "HPL.out";
  int number = 0, device = 6;
  FILE *file = __real_fopen(input, "r");

  if (output != NULL || file == NULL) {
    if (file != NULL) fclose(file);
    return output != NULL ? __real_fopen(output, mode) : stdout;
  }
  while (number < 4 && fgets(line, sizeof line, file) != NULL) {
    number++;
    if (number == 3) sscanf(line, "%s", name);
    if (number == 4) sscanf(line, "%d", &device);
  }
  fclose(file);
  if (device == 6) return stdout;
  if (device == 7) return stderr;
  return __real_fopen(name, mode);
}

FILE *__wrap_fopen(const char *path, const char *mode) {
  if (strcmp(path, "hpccinf.txt") == 0) return __real_fopen(input, mode);
  if (strcmp(path, "hpccoutf.txt") == 0) return open_results(mode);
  return __real_fopen(path, mode);
}

/* HPL calls this when its input is missing or wrong; hpcc would now run with
 * values of its own, which nobody asked for. */
int HPCC_Defaults(HPL_T_test *test, int *ns, int *n, int *nbs, int *nb, HPL_T_ORDER *pmap,
                  int *npqs, int *p, int *q, int *npfs, HPL_T_FACT *pf, int *nbms, int *nbm,
                  int *ndvs, int *ndv, int *nrfs, HPL_T_FACT *rf, int *ntps, HPL_T_TOP *tp,
                  int *ndhs, int *dh, HPL_T_SWAP *fswap, int *tswap, int *l1notran, int *unotran,
                  int *equil, int *align, MPI_Comm comm) {
  int rank = 0;
  MPI_Comm_rank(comm, &rank);
  if (rank == 0) {
    fprintf(stderr, "xhpl: cannot read the parameters from %s, or cannot write the results\n",
            input);
    MPI_Abort(comm, 2);
  }
  MPI_Barrier(comm); /* the others wait to be ended by rank 0 */
  return 1;
}

/* Whether to go on, the same for all ranks. */
static int again(const char *until) {
  int rank = 0, on = 0;
  if (until == NULL) return 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) on = access(until, F_OK) != 0;
  MPI_Bcast(&on, 1, MPI_INT, 0, MPI_COMM_WORLD);
  return on;
}

int main(int argc, char **argv) {
  HPL_RuntimeData best;
  const char *until = NULL;
  int failures = 0;

  MPI_Init(&argc, &argv);
  if (argc > 2 && strcmp(argv[1], "--until") == 0) {
    until = argv[2];
    argc -= 2;
    argv += 2;
  }
  if (argc > 1) input = argv[1];
  if (argc > 2) output = argv[2];
  do {
    int failure = 0;
    memset(&best, 0, sizeof best);
    HPL_main(argc, argv, &best, &failure);
    failures += failure != 0;
  } while (again(until));
  MPI_Finalize();
  return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
