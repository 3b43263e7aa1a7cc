"""`scripts/bench together`: see there."""
import concurrent.futures
import time

from benchlib import figures, memory, stalls, systems
from benchlib.harness import say
from benchlib.host import warm_memory

TOTAL_AIM, DOWNTIME_AIM = 1.0, 2.0
WAYS = ('at once', 'in turn')


def move_all(job, target, fabric, way):
  """All containers to the target; the wall time from the first request to the last end, and each
  migration's report."""
  indices = range(len(job.job.containers))
  began = time.monotonic()
  if way == 'in turn':
    moves = [job.move(target, fabric, index) for index in indices]
  else:
    with concurrent.futures.ThreadPoolExecutor(len(indices)) as pool:
      moves = list(pool.map(lambda index: job.move(target, fabric, index), indices))
  return 1000 * (time.monotonic() - began), moves


def one(job, way, target, fabric, repetition, megabytes):
  ranks = range(job.ranks)
  memory.wait_alive(job.text, time.time(), ranks)
  warm_memory(megabytes)
  memory.wait_counted_anew(job.text, ranks)
  began = time.time()
  total, moves = move_all(job, target, fabric, way)
  memory.wait_alive(job.text, time.time(), ranks)
  row = {'system': 'lifeboat', 'mode': job.mode, 'way': way, 'fabric': fabric,
         'containers': job.ranks, 'repetition': repetition, 'total_ms': round(total, 1),
         'downtime_ms': max(m['reported_downtime_ms'] for m in moves),
         'downtimes_ms': [m['reported_downtime_ms'] for m in moves],
         'bytes': sum(m['bytes'] for m in moves),
         'span': (began, time.time()), 'moves': moves}
  say(f'{job.ranks} containers {way}: total {total:.0f} ms, longest downtime '
      f'{row["downtime_ms"]:.0f} ms')
  return row


def measure(args, cluster, watched, fabric):
  count = args.containers
  job = systems.Lifeboat(cluster, args.mode, {'containers': count, 'nodes': cluster.nodes[:1]})
  load = {'mb': args.size, 'amounts': str(args.size), 'hot': args.hot, 'dirty': args.dirty_rate,
          'mpi': True}
  here, there = cluster.nodes[0], cluster.nodes[-1]
  rows = []
  try:
    job.start(load)
    for repetition in range(1, args.repetitions + 1):
      # Both ways go there and back equally often.
      for way in WAYS if repetition % 2 else WAYS[::-1]:
        rows.append(one(job, way, there, fabric, repetition, 2 * count * (args.size + 64)))
        here, there = there, here
    job.stop()
    text = job.text()
  finally:
    job.remove()
  for row in rows:
    span = row.pop('span')
    seen = memory.silence(text, *span, range(count), range(count))
    row.update({'gap_ms': seen['gap_ms'], 'paused_ms': seen['paused_ms'],
                'machine_stall_ms': watched.longest_ms(*span)})
  return rows


def main(args):
  limits = {'limits': {'migrations_per_node': max(4, args.containers)}}
  with systems.BenchCluster(args, limits) as cluster, stalls.Stalls() as watched:
    about = figures.environment(cluster)
    fabric = cluster.choose_fabrics([args.fabric])[0]
    rows = measure(args, cluster, watched, fabric)
  found = {way: {name: figures.spread([row[name] for row in rows if row['way'] == way])
                 for name in ('total_ms', 'downtime_ms', 'gap_ms', 'bytes')} for way in WAYS}
  ratios = {name: round(found['at once'][name]['median'] / found['in turn'][name]['median'], 3)
            for name in ('total_ms', 'downtime_ms')}
  lines = [['WAY', 'TOTAL', 'SPREAD', 'LONGEST DOWNTIME', 'SPREAD', 'GAP']]
  for way in WAYS:
    entry = found[way]
    lines.append([way, figures.cell(entry['total_ms']), figures.range_cell(entry['total_ms']),
                  figures.cell(entry['downtime_ms'], 1), figures.range_cell(entry['downtime_ms'], 1),
                  figures.cell(entry['gap_ms'])])
  print(f'\n{args.containers} containers of {args.size} MB over {fabric}, {args.mode}; median of '
        f'{args.repetitions}, ms; load before: {about["load_before"]:.1f}')
  print(figures.table(lines))
  print(stalls.tell(rows), end='')
  for name, aim in (('total_ms', TOTAL_AIM), ('downtime_ms', DOWNTIME_AIM)):
    print(f'{name[:-3]}, at once / in turn: {ratios[name]:.2f} '
          f'({"met" if ratios[name] <= aim else "not met"}: at most {aim})')
  figures.save(args.json, {'benchmark': 'together', 'environment': about, 'rows': rows,
                           'summary': {'ways': found, 'ratios': ratios}})
  return 0
