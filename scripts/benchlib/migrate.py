"""`scripts/bench migrate`: see there."""
import itertools
import os
import time

from benchlib import figures, memory, stalls, systems
from benchlib.harness import MB, Failure, Interrupted, say
from benchlib.host import Host, warm_memory

SETTLE_S = 1.2        # before a migration: the program reports once a second
BUDGET_MS = 50        # of downtime, beside the wire
TOTAL_FACTOR = {10 ** 9: 1.10}   # of bytes / wire; on faster fabrics:
TOTAL_FACTOR_FAST = 1.25
# What each system needs of a rank's size at the worst moment: the rank and its copy, or its images on
# both ends.
COPIES = 2.2
WARM_EXTRA_MB = 500
MEASURES = ('downtime_ms', 'total_ms', 'bytes', 'frozen_bytes', 'gap_ms', 'stall_ms', 'cpu_seconds',
            'cpu_share', 'machine_stall_ms', 'net_downtime_ms')


def once(cluster, watched, system, load, fabric):
  """One migration of one system, with a program of its own: a row."""
  hosts = {node: Host(cluster.lab, node) for node in cluster.nodes}
  source, target = cluster.nodes[0], cluster.nodes[-1]
  def spent():
    return hosts[source].cpu_s() + hosts[target].cpu_s()
  try:
    system.start(load)
    at, cpu = time.monotonic(), spent()
    time.sleep(SETTLE_S)
    idle = (spent() - cpu) / (time.monotonic() - at)
    # At most three copies of it at a time: images at both ends, and the restored memory.
    warm_memory(3 * load['mb'] + WARM_EXTRA_MB)
    memory.wait_counted_anew(system.text)
    began, at, cpu, wire = time.time(), time.monotonic(), spent(), hosts[source].sent(fabric)
    moved = system.move(target, fabric)
    seconds, cpu = time.monotonic() - at, spent() - cpu
    wire = hosts[source].sent(fabric) - wire
    memory.wait_alive(system.text, time.time())
    until = time.time()
    system.stop()
    seen = memory.silence(system.text(), began, until)
    written = memory.pages_per_s(system.text(), began, began + seconds)
  finally:
    system.remove()
  stopped = seen['paused_ms'] / 1000
  cpu = max(0.0, cpu - idle * max(0.0, seconds - stopped))
  return {'system': system.name, 'mode': system.mode, 'rss_mb': load['mb'],
          'hot_percent': load['hot'], 'dirty_pages_per_s': load['dirty'], 'fabric': fabric,
          'huge_pages': bool(load.get('huge')), 'shared_memory': load.get('shared'), 'downtime_ms': seen['paused_ms'],
          'stall_ms': round(max(0.0, seen['peer_gap_ms'] - seen['paused_ms']), 3), **seen, **moved,
          'wire_bytes': wire, 'machine_stall_ms': watched.longest_ms(began, began + seconds),
          'net_downtime_ms': net_downtime_ms(watched, seen, moved),
          'pages_per_s': written and round(written), 'cpu_seconds': round(cpu, 3),
          'cpu_share': round(cpu / (os.cpu_count() * moved['total_ms'] / 1000), 3)}


def net_downtime_ms(watched, seen, moved):
  """Without the time in which the machine itself stood still; None: nobody knows. Of ours as reported, as the
  longest pause that the process saw may have been another one; of the others as it saw it."""
  began = {event['phase']: event['t'] / 1e6 for event in reversed(moved.get('report', {}).get('history', []))}
  if {'freeze', 'committed'} <= began.keys():
    stood, span = moved['reported_downtime_ms'], (began['freeze'], began['committed'])
  elif seen['pause_ended_at']:
    stood, span = seen['paused_ms'], (seen['pause_ended_at'] - seen['paused_ms'] / 1000, seen['pause_ended_at'])
  else:
    return None
  stolen = watched.stolen_ms(*span)
  return None if stolen is None else round(max(0.0, stood - stolen), 3)


def floors(row, rate):
  """What the design asks of ours, in ms, from the bytes of this very migration."""
  factor = TOTAL_FACTOR.get(int(rate), TOTAL_FACTOR_FAST)
  downtime = BUDGET_MS + row['frozen_bytes'] * 8 / rate * 1000
  total = factor * row['bytes'] * 8 / rate * 1000
  return {'downtime_floor_ms': round(downtime, 1), 'total_floor_ms': round(total, 1),
          'downtime_met': row['downtime_ms'] <= downtime, 'total_met': row['total_ms'] <= total}


KEY = ('system', 'mode', 'rss_mb', 'hot_percent', 'fabric')


def summarize(rows, rates):
  """One entry per case: spread of everything, and for ours whether the medians meet the floors."""
  out = []
  for key in dict.fromkeys(tuple(row[k] for k in KEY) for row in rows):
    case = [row for row in rows if tuple(row[k] for k in KEY) == key]
    entry = dict(zip(KEY, key))
    entry.update({name: figures.spread([row[name] for row in case]) for name in MEASURES})
    if entry['system'] == 'lifeboat':
      medians = {name: entry[name]['median'] for name in MEASURES if entry[name]}
      entry['floors'] = floors(medians, rates[entry['fabric']])
    out.append(entry)
  return out


def growth(summary, rates):
  """How much longer ours stands still per GB of memory, in cases that differ in nothing else, net of
  the frozen bytes on the wire: [{mode, fabric, hot_percent, ms_per_gb}]."""
  out = []
  key = ('mode', 'fabric', 'hot_percent')
  ours = [e for e in summary if e['system'] == 'lifeboat' and e['mode'] != 'stop-and-copy']
  for case in dict.fromkeys(tuple(e[k] for k in key) for e in ours):
    net = {}
    for entry in (e for e in ours if tuple(e[k] for k in key) == case):
      wire = entry['frozen_bytes']['median'] * 8 / rates[entry['fabric']] * 1000
      net[entry['rss_mb']] = entry['downtime_ms']['median'] - wire
    least, most = min(net), max(net)
    if most > least:
      slope = (net[most] - net[least]) / ((most - least) / 1000)
      out.append({**dict(zip(key, case)), 'ms_per_gb': round(slope, 2)})
  return out


def show(summary):
  head = ['MB', 'HOT %', 'FABRIC', 'SYSTEM', 'MODE', 'DOWNTIME', 'NET', 'FLOOR', '', 'TOTAL', 'FLOOR', '',
          'GAP', 'STALL', 'SENT MB', 'FROZEN MB', 'CPU s',
          'CPU %']
  lines = [head]
  for entry in sorted(summary, key=lambda e: (e['rss_mb'], e['hot_percent'], e['fabric'])):
    def met(which, entry=entry):
      found = entry.get('floors')
      if found is None:
        return ['', '']
      return [f'{found[which + "_floor_ms"]:.0f}', 'met' if found[which + '_met'] else 'not met']
    lines.append([entry['rss_mb'], entry['hot_percent'], entry['fabric'], entry['system'],
                  entry['mode'], figures.cell(entry['downtime_ms'], 1),
                  figures.cell(entry['net_downtime_ms'], 1), *met('downtime'),
                  figures.cell(entry['total_ms']), *met('total'), figures.cell(entry['gap_ms']),
                  figures.cell(entry['stall_ms']), f'{entry["bytes"]["median"] / MB:.1f}',
                  f'{entry["frozen_bytes"]["median"] / MB:.2f}',
                  figures.cell(entry['cpu_seconds'], 2),
                  f'{entry["cpu_share"]["median"] * 100:.0f}'])
    lines.append(['', '', '', '', '', figures.range_cell(entry['downtime_ms'], 1),
                  figures.range_cell(entry['net_downtime_ms'], 1), '', '',
                  figures.range_cell(entry['total_ms']), '', '', figures.range_cell(entry['gap_ms']),
                  figures.range_cell(entry['stall_ms']), '', '',
                  figures.range_cell(entry['cpu_seconds'], 2), ''])
  return figures.table(lines)


def measure(args, cluster, watched, fabrics, rows, failures):
  chosen = systems.make(cluster, args.systems, args.modes)
  for size, hot in itertools.product(args.sizes, args.hot):
    load = {'mb': size, 'hot': hot, 'dirty': args.dirty_rate, 'huge': args.huge, 'shared': args.shared, 'mpi': args.mpi}
    # In turn, so that what the machine does meanwhile hits all alike.
    for repetition, fabric, system in itertools.product(range(args.repetitions), fabrics, chosen):
      free = systems.memory_free_mb()
      what = f'{system.name} {system.mode}, {size} MB, {hot} % hot, {fabric}, {repetition + 1}'
      if size * COPIES > free:
        say(f'{what}: left out: only {free} MB of memory are free')
        failures.append({'what': what, 'error': f'left out: {free} MB free'})
        continue
      try:
        row = once(cluster, watched, system, load, fabric)
      except Interrupted:
        raise
      except Failure as failure:
        say(f'{what}: FAILED: {failure}')
        failures.append({'what': what, 'error': str(failure)})
        continue
      rows.append({**row, 'repetition': repetition + 1})
      say(f'{what}: downtime {row["downtime_ms"]:.1f} ms, total {row["total_ms"]:.0f} ms, '
          f'gap {row["gap_ms"]:.0f} ms, {row["bytes"] / MB:.0f} MB')


def main(args):
  if args.quick:
    args.sizes, args.hot, args.fabrics, args.repetitions = [64, 1024], [10], ['10g'], 3
  rows, failures = [], []
  with systems.BenchCluster(args) as cluster, stalls.Stalls() as watched:
    fabrics = cluster.choose_fabrics(args.fabrics)
    about = figures.environment(cluster)
    try:
      measure(args, cluster, watched, fabrics, rows, failures)
    finally:
      summary = summarize(rows, cluster.rates)
      figures.save(args.json, {'benchmark': 'migrate', 'environment': about,
                               'repetitions': args.repetitions, 'rows': rows, 'summary': summary,
                               'growth': growth(summary, cluster.rates), 'failures': failures})
  print(f'\nmedian of {args.repetitions}, below it smallest-largest; ms; '
        f'dirty rate {args.dirty_rate} pages/s; load before: {about["load_before"]:.1f}')
  print(show(summary))
  aim = 4 if args.huge else 12
  for found in growth(summary, cluster.rates):
    print(f'{found["mode"]}, {found["fabric"]}, {found["hot_percent"]} % hot: downtime grows by '
          f'{found["ms_per_gb"]} ms per GB ({"met" if found["ms_per_gb"] <= aim else "not met"}: '
          f'at most {aim}' + (')' if found['hot_percent'] == 0 else '; stated for clean memory)'))
  print(stalls.tell(rows), end='')
  for failure in failures:
    print(f'failed: {failure["what"]}: {failure["error"].splitlines()[0]}')
  return 1 if failures else 0
