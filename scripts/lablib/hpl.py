"""HPL's input, and the residuals that it prints."""

# No look-ahead: with it, how much HPL updates at once depends on when messages arrive, and with some sizes (N = 1028,
# for one; no multiple of 8) so do the digits of its residual, migrations or not.
INPUT = '''HPLinpack benchmark input file
Lifeboat
HPL.out      output file name (if any)
6            device out (6=stdout,7=stderr,file)
{problems}            # of problems sizes (N)
{sizes}       Ns
1            # of NBs
{block}           NBs
0            PMAP process mapping (0=Row-,1=Column-major)
1            # of process grids (P x Q)
{rows}            Ps
{columns}            Qs
16.0         threshold
1            # of panel fact
2            PFACTs (0=left, 1=Crout, 2=Right)
1            # of recursive stopping criterium
4            NBMINs (>= 1)
1            # of panels in recursion
2            NDIVs
1            # of recursive panel fact.
1            RFACTs (0=left, 1=Crout, 2=Right)
1            # of broadcast
1            BCASTs (0=1rg,1=1rM,2=2rg,3=2rM,4=Lng,5=LnM)
1            # of lookahead depth
0            DEPTHs (>=0)
2            SWAP (0=bin-exch,1=long,2=mix)
64           swapping threshold
0            L1 in (0=transposed,1=no-transposed) form
0            U  in (0=transposed,1=no-transposed) form
1            Equilibration (0=no,1=yes)
8            memory alignment in double (> 0)
'''


def hpl_input(size, problems, rows, columns, block=64):
  """HPL.dat: `problems` times the same system of `size` equations on rows x columns ranks."""
  return INPUT.format(problems=problems, sizes=' '.join([str(size)] * problems), block=block, rows=rows,
                      columns=columns)


def hpl_residuals(text):
  """[(digits of the residual, PASSED or FAILED)] in the order of the output."""
  out = []
  for line in text.splitlines():
    if line.startswith('||Ax-b||') and '......' in line:
      words = line.partition('=')[2].split()
      out.append((words[0], words[-1]))
  return out
