"""`scripts/bench tracking`: see there."""
import itertools
import time

from benchlib import figures, hpl, systems
from benchlib.harness import Failure, say

FAULT_US = 1.1       # what the design says of one first write per page and round
AIM_PERCENT = 1.0
LEAD_S = 2           # of HPL before the first migration: it has to be set up
BEFORE_S = 5         # of the writer, to see its own speed
WATCHES = 5          # of the writer, each for a second
PAGE = 4096


def hpl_alone(args, cluster):
  run = hpl.Hpl(cluster, args.hpl_size, 2, 2)
  try:
    return run.finish()
  finally:
    run.remove()


def hpl_disturbed(args, cluster, fabric, pause, moved):
  """A run with so many migrations, or only the tracking of them, a pause before each;
  {time_s, residual, downtimes_ms}."""
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
                           *([] if moved else ['--dry-run']), timeout=900)
      if not moved:
        continue
      if report.get('outcome') != 'committed':
        raise Failure(f'migration of HPL failed (does it end too soon? use a larger --hpl-size): {report}')
      downtimes.append(report['downtime_ms'])
    return {**run.finish(), 'downtimes_ms': downtimes}
  finally:
    run.remove()


WAYS = ('alone', 'watched', 'moved')


def measure_hpl(args, cluster, fabric):
  """Triples of runs: alone, with its writes tracked, moved; in another order each time."""
  rows = []
  for repetition in range(args.repetitions):
    row = {'kind': 'hpl', 'repetition': repetition + 1, 'fabric': fabric}
    first = repetition % len(WAYS)
    for which in WAYS[first:] + WAYS[:first]:
      row[which] = (hpl_alone(args, cluster) if which == 'alone'
                    else hpl_disturbed(args, cluster, fabric, args.pause, which == 'moved'))
    alone, watched, moved = (row[which]['time_s'] for which in WAYS)
    stopped = sum(row['moved']['downtimes_ms']) / 1000
    row.update(alone_s=alone, watched_s=watched, moved_s=moved, stopped_s=round(stopped, 3),
               slowdown_percent=round(100 * (moved / alone - 1), 3),
               net_percent=round(100 * ((moved - stopped) / alone - 1), 3),
               tracking_percent=round(100 * (watched / alone - 1), 3),
               residuals_equal=len({row[which]['residual'] for which in WAYS}) == 1)
    rows.append(row)
    say(f'HPL {repetition + 1}: {alone:.1f} s alone, {watched:.1f} s with {args.migrations} times its writes '
        f'tracked: {row["tracking_percent"]:.1f} %, {moved:.1f} s with as many migrations (stopped for '
        f'{stopped:.2f} s of them): {row["net_percent"]:.1f} % net of that')
  return rows


def measure_watched(args, cluster, fabric, repetition):
  """The same rank, its writes tracked for a second several times, and nothing sent."""
  found, took_s, before, during = systems.watch_writer(
    cluster, {'mb': args.size, 'hot': 100, 'dirty': 'max'}, fabric, BEFORE_S, WATCHES)
  faults = round(sum(one['dirty_bytes_per_s'] for one in found) / PAGE)
  lost = took_s * (1 - during / before)
  say(f'writer {repetition}: {before:.0f} pages/s, {during:.0f} while its writes were tracked: {lost:.2f} s lost '
      f'for {faults} first writes')
  return {'kind': 'watched', 'repetition': repetition, 'fabric': fabric, 'rss_mb': args.size,
          'before_pages_per_s': round(before), 'during_pages_per_s': round(during), 'first_writes': faults,
          'lost_ms': round(1000 * lost, 1), 'us_per_first_write': round(1e6 * lost / faults, 3)}


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


def judge(hpl, name):
  """In words. Runs alone that differ among themselves by more than the aim prove nothing."""
  cost, alone = hpl[name]['median'], hpl['alone_s']
  noise = 100 * (alone['max'] / alone['min'] - 1)
  if alone['count'] < 2:
    return f'{cost:.1f} %; one run of each cannot tell whether that is the machine'
  if noise > AIM_PERCENT and abs(cost) <= noise:
    return f'{cost:.1f} %, not to be told from noise: runs alone differ by {noise:.1f} %'
  return f'{cost:.1f} % slower ({"met" if cost <= AIM_PERCENT else "not met"}: at most {AIM_PERCENT} %)'


def main(args):
  with systems.BenchCluster(args) as cluster:
    about = figures.environment(cluster)
    fabric = cluster.choose_fabrics([args.fabric])[0]
    writers, watched = [], []
    for repetition in range(1, args.repetitions + 1):
      watched.append(measure_watched(args, cluster, fabric, repetition))
      writers.append(measure_writer(args, cluster, fabric, repetition))
    triples = measure_hpl(args, cluster, fabric) if args.hpl_size else []
  def spread(rows, name):
    return figures.spread([row[name] for row in rows])
  summary = {'hpl': {name: spread(triples, name) for name in
                     ('alone_s', 'moved_s', 'stopped_s', 'watched_s', 'tracking_percent', 'slowdown_percent', 'net_percent')},
             'watched': {name: spread(watched, name) for name in
                         ('before_pages_per_s', 'during_pages_per_s', 'first_writes', 'lost_ms',
                          'us_per_first_write')},
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
  if triples:
    summary['verdict'] = {name: judge(summary['hpl'], name) for name in ('tracking_percent', 'net_percent')}
    print(f'HPL with its writes tracked {args.migrations} times: {summary["verdict"]["tracking_percent"]}')
    print(f'HPL with {args.migrations} migrations, net of the downtimes: {summary["verdict"]["net_percent"]}')
  figures.save(args.json, {'benchmark': 'tracking', 'environment': about, 'rows': watched + writers + triples,
                           'summary': summary})
  return 0
