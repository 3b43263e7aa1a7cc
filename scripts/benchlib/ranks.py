"""`scripts/bench ranks`: see there."""
import itertools
import time

from benchlib import figures, memory, stalls, systems
from benchlib.harness import MB, say
from benchlib.host import warm_memory

AIM_MS = 150


def measure(args, cluster, watched, fabrics, mode):
  """Moves one container with all the ranks to and fro; a row per migration."""
  job = systems.Lifeboat(cluster, mode, {'containers': 1, 'ranks_per_container': args.ranks,
                                         'memory': f'{args.ranks * (args.size + 64) + 256}MiB',
                                         'nodes': cluster.nodes[:1]})
  everybody = range(args.ranks)
  load = {'mb': args.size, 'amounts': str(args.size), 'hot': args.hot, 'dirty': args.dirty_rate,
          'mpi': True}
  places = itertools.cycle([cluster.nodes[-1], cluster.nodes[0]])
  rows, spans = [], []
  try:
    job.start(load)
    for repetition, fabric in itertools.product(range(args.repetitions), fabrics):
      memory.wait_alive(job.text, time.time(), everybody)
      warm_memory(2 * args.ranks * (args.size + 64))
      memory.wait_counted_anew(job.text, everybody)
      began = time.time()
      row = {'system': 'lifeboat', 'mode': mode, 'ranks': args.ranks, 'fabric': fabric,
             'rss_mb': args.size * args.ranks, 'hot_percent': args.hot,
             'dirty_pages_per_s': args.dirty_rate, 'repetition': repetition + 1,
             **job.move(next(places), fabric)}
      memory.wait_alive(job.text, time.time(), everybody)
      rows.append(row)
      spans.append((began, time.time()))
      say(f'{args.ranks} ranks, {mode}, {fabric}, {repetition + 1}: downtime '
          f'{row["reported_downtime_ms"]:.1f} ms (as reported), total {row["total_ms"]:.0f} ms')
    job.stop()
    text = job.text()
  finally:
    job.remove()
  for row, (began, until) in zip(rows, spans):
    row.update(memory.silence(text, began, until, everybody, everybody))
    row['machine_stall_ms'] = watched.longest_ms(began, until)
    row['downtime_ms'] = row['paused_ms']
  return rows


def main(args):
  with systems.BenchCluster(args) as cluster, stalls.Stalls() as watched:
    about = figures.environment(cluster)
    fabrics = cluster.choose_fabrics(args.fabrics)
    rows = [row for mode in args.modes for row in measure(args, cluster, watched, fabrics, mode)]
  summary = []
  lines = [['RANKS', 'MB', 'MODE', 'FABRIC', 'DOWNTIME', 'SPREAD', 'REPORTED', 'GAP', 'TOTAL', 'SENT MB',
            f'BELOW {AIM_MS} ms']]
  for mode, fabric in itertools.product(args.modes, fabrics):
    case = [row for row in rows if (row['mode'], row['fabric']) == (mode, fabric)]
    entry = {'mode': mode, 'fabric': fabric, 'ranks': args.ranks, 'rss_mb': args.size * args.ranks}
    entry.update({name: figures.spread([row[name] for row in case]) for name in
                  ('downtime_ms', 'reported_downtime_ms', 'gap_ms', 'total_ms', 'bytes', 'frozen_bytes')})
    entry['aim_ms'], entry['aim_met'] = AIM_MS, entry['downtime_ms']['median'] < AIM_MS
    summary.append(entry)
    lines.append([args.ranks, args.size * args.ranks, mode, fabric,
                  figures.cell(entry['downtime_ms'], 1), figures.range_cell(entry['downtime_ms'], 1),
                  figures.cell(entry['reported_downtime_ms'], 1), figures.cell(entry['gap_ms']),
                  figures.cell(entry['total_ms']), f'{entry["bytes"]["median"] / MB:.0f}',
                  'met' if entry['aim_met'] else 'not met'])
  print(f'\nmedian of {args.repetitions}, ms; load before: {about["load_before"]:.1f}')
  print(figures.table(lines))
  print(stalls.tell(rows), end='')
  figures.save(args.json, {'benchmark': 'ranks', 'environment': about, 'rows': rows,
                           'summary': summary})
  return 0
