"""`scripts/bench tracking`: see there."""
import itertools
import time

from benchlib import figures, hpl, systems
from benchlib.harness import Failure, say

FAULT_US = 1.1       # what the design says of one first write per page and round
AIM_PERCENT = 1.0
LEAD_S = 2           # of HPL before the first migration: it has to be set up
BEFORE_S = 5         # of the writer, to see its own speed


def hpl_alone(args, cluster):
  run = hpl.Hpl(cluster, args.hpl_size, 2, 2)
  try:
    return run.finish()
  finally:
    run.remove()


def hpl_moved(args, cluster, fabric, pause):
  """A run with so many migrations, a pause before each; {time_s, residual, downtimes_ms}."""
  run = hpl.Hpl(cluster, args.hpl_size, 2, 2)
  targets = itertools.cycle([cluster.nodes[-1], *cluster.nodes])
  downtimes = []
  try:
    time.sleep(LEAD_S)
    for _, container in zip(range(args.migrations), itertools.cycle(run.job.containers)):
      time.sleep(pause)
      here = cluster.where()[container]
      target = next(node for node in targets if node != here)
      report = cluster.ask('migrate', container, '--to', target, '--fabric', fabric, '--mode', args.mode,
                           timeout=900)
      if report.get('outcome') != 'committed':
        raise Failure(f'migration of HPL failed (does it end too soon? use a larger --hpl-size): {report}')
      downtimes.append(report['downtime_ms'])
    return {**run.finish(), 'downtimes_ms': downtimes}
  finally:
    run.remove()


def measure_hpl(args, cluster, fabric):
  """Pairs of runs, alone and moved, the order alternating."""
  rows = []
  for repetition in range(1, args.repetitions + 1):
    row, pause = {'kind': 'hpl', 'repetition': repetition, 'fabric': fabric}, args.pause
    for which in ('alone', 'moved') if repetition % 2 else ('moved', 'alone'):
      row[which] = (hpl_alone(args, cluster) if which == 'alone'
                    else hpl_moved(args, cluster, fabric, pause))
    alone, moved = row['alone']['time_s'], row['moved']['time_s']
    stopped = sum(row['moved']['downtimes_ms']) / 1000
    row.update(alone_s=alone, moved_s=moved, stopped_s=round(stopped, 3),
               slowdown_percent=round(100 * (moved / alone - 1), 3),
               net_percent=round(100 * ((moved - stopped) / alone - 1), 3),
               residuals_equal=row['alone']['residual'] == row['moved']['residual'])
    rows.append(row)
    say(f'HPL {repetition}: {alone:.1f} s alone, {moved:.1f} s with {args.migrations} migrations '
        f'(stopped for {stopped:.2f} s of them): {row["net_percent"]:.1f} % net of that')
  return rows


def measure_writer(args, cluster, fabric, repetition):
  """A rank that rewrites all its memory as fast as it can, moved once."""
  report, took_s, before, during = systems.move_writer(
    cluster, args.mode, {'mb': args.size, 'hot': 100, 'dirty': 'max'}, fabric, BEFORE_S)
  if before is None or during is None:
    raise Failure('the reports of the writer do not cover the migration')
  # Every page found by a scan after the first had to be faulted on once; so had those of the last
  # interval, which were sent frozen.
  rounds = report['rounds']
  faults = sum(r['pages_found'] for r in rounds[1:]) + report['memory']['pages_frozen']
  lost = took_s * (1 - during / before) - report['downtime_ms'] / 1000
  row = {'kind': 'writer', 'repetition': repetition, 'fabric': fabric, 'rss_mb': args.size,
         'before_pages_per_s': round(before), 'during_pages_per_s': round(during),
         'rounds': len(rounds), 'first_writes': faults, 'lost_ms': round(1000 * lost, 1),
         'faults_ms': round(faults * FAULT_US / 1000, 1),
         'us_per_first_write': round(1e6 * lost / faults, 3) if faults else None, 'report': report}
  say(f'writer {repetition}: {before:.0f} pages/s, {during:.0f} during the migration; {lost:.2f} s lost '
      f'beside the downtime, {faults} first writes in {len(rounds)} rounds')
  return row


def judge(hpl):
  """In words. Runs alone that differ among themselves by more than the aim prove nothing."""
  net, alone = hpl['net_percent']['median'], hpl['alone_s']
  noise = 100 * (alone['max'] / alone['min'] - 1)
  if alone['count'] < 2:
    return f'{net:.1f} %; one pair cannot tell whether that is the machine'
  if noise > AIM_PERCENT and abs(net) <= noise:
    return f'{net:.1f} %, not to be told from noise: runs alone differ by {noise:.1f} %'
  return f'{net:.1f} % slower ({"met" if net <= AIM_PERCENT else "not met"}: at most {AIM_PERCENT} %)'


def main(args):
  with systems.BenchCluster(args) as cluster:
    about = figures.environment(cluster)
    fabric = cluster.choose_fabrics([args.fabric])[0]
    writers = [measure_writer(args, cluster, fabric, r + 1) for r in range(args.repetitions)]
    pairs = measure_hpl(args, cluster, fabric) if args.hpl_size else []
  def spread(rows, name):
    return figures.spread([row[name] for row in rows])
  summary = {'hpl': {name: spread(pairs, name) for name in
                     ('alone_s', 'moved_s', 'stopped_s', 'slowdown_percent', 'net_percent')},
             'writer': {name: spread(writers, name) for name in
                        ('before_pages_per_s', 'during_pages_per_s', 'rounds', 'first_writes',
                         'lost_ms', 'faults_ms', 'us_per_first_write')}}
  lines = [['', 'MEDIAN', 'SPREAD']]
  for kind, names in summary.items():
    lines += [[f'{kind} {name}', figures.cell(found, 2), figures.range_cell(found, 2)]
              for name, found in names.items()]
  print(f'\n{args.mode} over {fabric}; {args.repetitions} repetitions; '
        f'load before: {about["load_before"]:.1f}')
  print(figures.table(lines))
  if pairs:
    verdict = summary['verdict'] = judge(summary['hpl'])
    print(f'HPL with {args.migrations} migrations, net of the downtimes: {verdict}')
  figures.save(args.json, {'benchmark': 'tracking', 'environment': about, 'rows': writers + pairs,
                           'summary': summary})
  return 0
