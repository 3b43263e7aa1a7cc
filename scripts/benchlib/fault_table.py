"""The table of `scripts/soak faults`: fault x phase -> who runs on, and after how long. Of one run, or of several.

A result: {seed, step, fault, phase, mode, on, struck, runs_s, settled_s, error}. `on` is source or target; or
why it runs nowhere: lost (its node had no power), ended (its pager was gone), criu (it was killed in the middle
of a dump). `runs_s`: from the fault until it ran there for good; 0 if it did all the time. `settled_s`: until
its migration was over, all daemons agreed and nobody else had a copy, the fault's own time included.
"""
import collections
import statistics

from benchlib.harness import say

ENDS = ('source', 'target', 'lost', 'ended', 'criu')
ORDER = ('queued', 'connect', 'pre-copy', 'layer', 'prepare', 'freeze', 'dump', 'transfer', 'restore', 'staged',
         'commit', 'taken', 'committed', 'over')
HEAD = (f'{"fault":20} {"phase":10} {"runs on":8} {"number":>6}  {"runs after, s":>15}  {"settled after, s":>16}\n'
        f'{"":20} {"":10} {"":8} {"":6}  {"median longest":>15}  {"median  longest":>16}')


def spread(values):
  return statistics.median(values), max(values)


def rows(results):
  """[{fault, phase, on, number, runs_s: (median, longest), settled_s: (median, longest)}]; phase `all`: of all."""
  cells = collections.defaultdict(list)
  for result in results:
    if result['struck']:
      for phase in (result['phase'], 'all'):
        cells[result['fault'], phase, result['on']].append(result)
  place = lambda key: (key[0], ('all', *ORDER).index(key[1]), ENDS.index(key[2]))
  return [{'fault': fault, 'phase': phase, 'on': on, 'number': len(found),
           'runs_s': spread([r['runs_s'] for r in found]), 'settled_s': spread([r['settled_s'] for r in found])}
          for (fault, phase, on), found in sorted(cells.items(), key=lambda item: place(item[0]))]


def tell(runs):
  """Prints it, and what was a problem; the exit status."""
  results = [result for run in runs for result in run['results']]
  last = None
  print(HEAD)
  for row in rows(results):
    fault, phase = (row['fault'] if row['fault'] != last else ''), row['phase']
    last = row['fault']
    times = [f'{row[key][0]:7.1f} {row[key][1]:7.1f}' if key == 'settled_s' or row['on'] in ('source', 'target')
             else '' for key in ('runs_s', 'settled_s')]
    print(f'{fault:20} {phase:10} {row["on"]:8} {row["number"]:6}  {times[0]:>15}  {times[1]:>16}')
  problems = [problem for run in runs for problem in run['problems']]
  for problem in problems:
    print(f'PROBLEM (--seed {problem["seed"]} --step {problem["step"]}): {problem["what"]}: '
          f'{problem["problem"][:500]}')
  where = collections.Counter(result['on'] for result in results if result['struck'])
  total = lambda key: sum(run[key] for run in runs)
  digits = {run['digits'] for run in runs if run['digits']}
  say(f'{"ok" if not problems else "FAILED"}: seeds {", ".join(str(run["seed"]) for run in runs)}: '
      f'{total("migrations")} migrations, {sum(where.values())} of them with a fault: '
      f'{", ".join(f"{number} {on}" for on, number in where.most_common())}; {total("jobs")} jobs ended well, '
      f'{total("residuals")} residuals PASSED with the digits {", ".join(sorted(digits))}; {len(problems)} problems')
  return 1 if problems else 0
