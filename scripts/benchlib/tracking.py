"""`scripts/bench tracking`: see there."""
import itertools
import statistics
import time

from benchlib import figures, hpl, systems
from benchlib.harness import Failure, say
from campaignlib.statistics_of import bootstrap

FAULT_US = 1.1       # what the design says of one first write per page and round
AIM_PERCENT = 1.0
LEAD_S = 2           # of HPL before the first migration: it has to be set up
BEFORE_S = 5         # of the writer, to see its own speed
WATCHES = 5          # of the writer
WATCHED_S = 1        # how long migrate --dry-run watches
PAGE = 4096


def first_writes_of(report):
  """Every page found by a scan after the first had to be faulted on once; so had those of the last interval, which
  were sent frozen."""
  return sum(r['pages_found'] for r in report['rounds'][1:]) + report['memory']['pages_frozen']


def hpl_alone(args, cluster):
  run = hpl.Hpl(cluster, args.hpl_size, 2, 2)
  try:
    return run.finish()
  finally:
    run.remove()


def out_and_back(cluster, job):
  """Each container to a node that it is not on, and back: which ranks share a node is another cost than moving."""
  where = cluster.where()
  for container in job.containers:
    home = where[container]
    yield container, next(node for node in reversed(cluster.nodes) if node != home)
    yield container, home


def hpl_disturbed(args, cluster, fabric, pause, moved):
  """A run with so many migrations, or only the tracking of them, a pause before each;
  {time_s, residual, downtimes_ms, first_writes}: of pages, in a second or a round."""
  run = hpl.Hpl(cluster, args.hpl_size, 2, 2)
  downtimes, first_writes = [], 0
  try:
    time.sleep(LEAD_S)
    plan = list(out_and_back(cluster, run.job))
    for _, (container, target) in zip(range(args.migrations), itertools.cycle(plan if moved else plan[::2])):
      time.sleep(pause)
      report = cluster.ask('migrate', container, '--to', target, '--fabric', fabric, '--mode', args.mode,
                           *([] if moved else ['--dry-run']), timeout=900)
      if not moved:
        first_writes += round(report['dirty_bytes_per_s'] * WATCHED_S / PAGE)
        continue
      if report.get('outcome') != 'committed':
        raise Failure(f'migration of HPL failed (does it end too soon? use a larger --hpl-size): {report}')
      downtimes.append(report['downtime_ms'])
      first_writes += first_writes_of(report)
    return {**run.finish(), 'downtimes_ms': downtimes, 'first_writes': first_writes}
  finally:
    run.remove()


def beside_row(tracked_s, other_s, first_writes):
  """What a pair of runs at the same time says."""
  return {'tracked_s': tracked_s, 'other_s': other_s, 'first_writes': first_writes,
          'tracking_percent': round(100 * (tracked_s / other_s - 1), 3),
          'faults_percent': round(100 * first_writes * FAULT_US / 1e6 / other_s, 3),
          'us_per_first_write': round(1e6 * (tracked_s - other_s) / first_writes, 3)}


def measure_beside(args, cluster, fabric):
  """Two runs of one rank each at the same time, each with a processor: what the machine does to one of them it does to
  the other. Whose writes are tracked changes with each pair."""
  rows = []
  for pair in range(1, 2 * args.repetitions + 1):
    runs = {}
    try:
      for name in ('hpl-a', 'hpl-b'):
        runs[name] = hpl.Hpl(cluster, args.pair_size, 1, 1, name=name)
      tracked = runs['hpl-b' if pair % 2 else 'hpl-a']
      time.sleep(LEAD_S)
      container, target = next(out_and_back(cluster, tracked.job))
      first_writes = 0
      for _ in range(args.migrations):
        time.sleep(args.pause)
        report = cluster.ask('migrate', container, '--to', target, '--fabric', fabric, '--dry-run')
        if 'dirty_bytes_per_s' not in report:
          raise Failure(f'HPL could not be watched (does it end too soon? use a larger --pair-size): {report}')
        first_writes += round(report['dirty_bytes_per_s'] * WATCHED_S / PAGE)
      times = {run: run.finish()['time_s'] for run in runs.values()}
    finally:
      for run in runs.values():
        run.remove()
    other = next(run for run in runs.values() if run is not tracked)
    row = {'kind': 'beside', 'repetition': pair, 'fabric': fabric,
           **beside_row(times[tracked], times[other], first_writes)}
    rows.append(row)
    say(f'HPL beside HPL, {pair}: {row["other_s"]:.2f} s, and {row["tracked_s"]:.2f} s with its writes tracked '
        f'{args.migrations} times: {row["tracking_percent"]:.2f} %, {row["us_per_first_write"]:.2f} us for each of '
        f'{first_writes} first writes')
  return rows


WAYS = ('alone', 'watched', 'moved')


def hpl_row(row):
  """What the runs of one repetition say, each against the one alone."""
  alone = row['alone']['time_s']
  out = {'alone_s': alone, 'residuals_equal': len({row[way]['residual'] for way in WAYS if way in row}) == 1}
  if 'watched' in row:
    watched = row['watched']['time_s']
    out.update(watched_s=watched, tracking_percent=round(100 * (watched / alone - 1), 3))
  if 'moved' in row:
    moved, stopped = row['moved']['time_s'], sum(row['moved']['downtimes_ms']) / 1000
    out.update(moved_s=moved, stopped_s=round(stopped, 3), slowdown_percent=round(100 * (moved / alone - 1), 3),
               net_percent=round(100 * ((moved - stopped) / alone - 1), 3))
  for way in {'watched', 'moved'} & set(row):
    faults = row[way]['first_writes']
    out.update({f'{way}_first_writes': faults,
                f'{way}_faults_percent': round(100 * faults * FAULT_US / 1e6 / alone, 3)})
  return out


def measure_hpl(args, cluster, fabric):
  """Runs alone, with its writes tracked, and moved; in another order each time."""
  ways = [way for way in WAYS if way == 'alone' or way in args.ways]
  rows = []
  for repetition in range(args.repetitions):
    row = {'kind': 'hpl', 'repetition': repetition + 1, 'fabric': fabric}
    first = repetition % len(ways)
    for which in ways[first:] + ways[:first]:
      row[which] = (hpl_alone(args, cluster) if which == 'alone'
                    else hpl_disturbed(args, cluster, fabric, args.pause, which == 'moved'))
    row.update(hpl_row(row))
    rows.append(row)
    text = f'HPL {repetition + 1}: {row["alone_s"]:.1f} s alone'
    if 'watched' in row:
      text += (f', {row["watched_s"]:.1f} s with {args.migrations} times its writes tracked: '
               f'{row["tracking_percent"]:.1f} %, {row["watched_first_writes"]} first writes should take '
               f'{row["watched_faults_percent"]:.2f} %')
    if 'moved' in row:
      text += (f', {row["moved_s"]:.1f} s with as many migrations (stopped for {row["stopped_s"]:.2f} s of them): '
               f'{row["net_percent"]:.1f} % net of that, {row["moved_first_writes"]} first writes should take '
               f'{row["moved_faults_percent"]:.2f} %')
    say(text)
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
  rounds = report['rounds']
  faults = first_writes_of(report)
  lost = took_s * (1 - during / before) - report['downtime_ms'] / 1000
  row = {'kind': 'writer', 'repetition': repetition, 'fabric': fabric, 'rss_mb': args.size,
         'before_pages_per_s': round(before), 'during_pages_per_s': round(during),
         'rounds': len(rounds), 'first_writes': faults, 'lost_ms': round(1000 * lost, 1),
         'faults_ms': round(faults * FAULT_US / 1000, 1),
         'us_per_first_write': round(1e6 * lost / faults, 3) if faults else None, 'report': report}
  say(f'writer {repetition}: {before:.0f} pages/s, {during:.0f} during the migration; {lost:.2f} s lost '
      f'beside the downtime, {faults} first writes in {len(rounds)} rounds')
  return row


def judge(percents):
  """In words: the mean of pairs, with the interval in which it is in 95 of 100 cases."""
  mean = statistics.fmean(percents)
  if len(percents) < 3:
    return f'{mean:.1f} %; fewer than three pairs cannot tell whether that is the machine'
  low, high = bootstrap(percents)
  found = f'{mean:.1f} % ({low:.1f} to {high:.1f}, mean of {len(percents)} pairs)'
  if low <= AIM_PERCENT < high:
    return f'{found}: not to be told from the aim of {AIM_PERCENT:.0f} %'
  return f'{found}: {"met" if high <= AIM_PERCENT else "not met"}, at most {AIM_PERCENT:.0f} %'


def main(args):
  with systems.BenchCluster(args) as cluster:
    about = figures.environment(cluster)
    fabric = cluster.choose_fabrics([args.fabric])[0]
    writers, watched = [], []
    for repetition in range(1, args.repetitions + 1 if args.size else 0):
      watched.append(measure_watched(args, cluster, fabric, repetition))
      writers.append(measure_writer(args, cluster, fabric, repetition))
    pairs = measure_beside(args, cluster, fabric) if 'beside' in args.ways else []
    disturbed = args.hpl_size and {'watched', 'moved'} & set(args.ways)
    triples = measure_hpl(args, cluster, fabric) if disturbed else []
  def spread(rows, name):
    return figures.spread([row[name] for row in rows if name in row])
  summary = {'hpl': {name: spread(triples, name) for name in
                     ('alone_s', 'watched_s', 'tracking_percent', 'watched_faults_percent', 'moved_s', 'stopped_s',
                      'slowdown_percent', 'net_percent', 'moved_faults_percent')},
             'beside': {name: spread(pairs, name) for name in
                        ('other_s', 'tracked_s', 'tracking_percent', 'faults_percent', 'first_writes',
                         'us_per_first_write')},
             'watched': {name: spread(watched, name) for name in
                         ('before_pages_per_s', 'during_pages_per_s', 'first_writes', 'lost_ms',
                          'us_per_first_write')},
             'writer': {name: spread(writers, name) for name in
                        ('before_pages_per_s', 'during_pages_per_s', 'rounds', 'first_writes',
                         'lost_ms', 'faults_ms', 'us_per_first_write')}}
  lines = [['', 'MEDIAN', 'SPREAD']]
  for kind, names in summary.items():
    names = {name: found for name, found in names.items() if found}
    lines += [[f'{kind} {name}', figures.cell(found, 2), figures.range_cell(found, 2)]
              for name, found in names.items()]
  print(f'\n{args.mode} over {fabric}; {args.repetitions} repetitions; '
        f'load before: {about["load_before"]:.1f}')
  print(figures.table(lines))
  said = {'tracking_percent': f'HPL with its writes tracked {args.migrations} times',
          'net_percent': f'HPL with {args.migrations} migrations, net of the downtimes'}
  summary['verdict'] = {}
  if pairs:
    summary['verdict']['beside'] = judge([row['tracking_percent'] for row in pairs])
    print(f'HPL beside HPL, its writes tracked {args.migrations} times: {summary["verdict"]["beside"]}')
  for name, what in said.items():
    percents = [row[name] for row in triples if name in row]
    if percents:
      summary['verdict'][name] = judge(percents)
      print(f'{what}: {summary["verdict"][name]}')
  figures.save(args.json, {'benchmark': 'tracking', 'environment': about, 'rows': watched + writers + pairs + triples,
                           'summary': summary})
  return 0
