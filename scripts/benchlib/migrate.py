"""`scripts/bench migrate`: see there."""
import json
import os
import re
import statistics
import subprocess
import time

import yaml

from benchlib import harness
from benchlib.harness import MB, PARTS, ROOT, Failure, say

CRIU_S_PER_GB = 1.3
PEER_MB = 16           # what the rank that stays holds
OVERHEAD_MB = 256      # of a container, beside its memory: libraries, Hydra's proxy
SECONDS = 3600         # the longest a job runs; it is told to stop earlier
GAP = re.compile(r'gap rank (\d+) ([\d.]+) ms at ([\d.]+)')


def build_program(environment):
  """Builds mpi/bench/memory.c into the image, if it is newer than what is there."""
  source = os.path.join(ROOT, 'mpi/bench/memory.c')
  extra = os.path.join(environment['LIFEBOAT_CACHE'], 'image-extra')
  program = os.path.join(extra, 'memory')
  inside = os.path.join(environment['BUNDLE'], 'rootfs/usr/local/bin/memory')
  if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
    os.makedirs(extra, exist_ok=True)
    made = os.path.join(environment['LIFEBOAT_CACHE'], 'memory.new')
    compiler = ['mpicc.mpich', '-std=c11', '-O2', '-Wall', '-Wextra']
    done = subprocess.run([*compiler, '-o', made, source], text=True, capture_output=True,
                          check=False)
    if done.returncode != 0:
      raise Failure(f'{source} does not compile:\n{done.stderr}')
    os.rename(made, program)
  if not os.path.exists(inside) or os.path.getmtime(inside) < os.path.getmtime(program):
    done = subprocess.run([os.path.join(ROOT, 'scripts/setup')], text=True, capture_output=True,
                          check=False, timeout=900)
    if done.returncode != 0:
      raise Failure(f'scripts/setup failed:\n{done.stdout}{done.stderr}')


def one_size(cluster, size, fabrics, repetitions):
  """[report of each migration], with the application's own gap in it."""
  job = harness.Job(cluster, 'memory', {
    'command': ['/usr/local/bin/memory', f'{size},{PEER_MB}', str(SECONDS), '/work/stop'],
    'containers': 2, 'memory': f'{size + OVERHEAD_MB}MiB', 'nodes': cluster.nodes[:2],
    'mounts': [{'source': cluster.work, 'target': '/work'}], 'user': {'uid': 0, 'gid': 0}})
  stop = os.path.join(cluster.work, 'stop')
  try:
    if not job.wait_until(lambda: 'memory ready' in job.lines, 120, '"memory ready"'):
      raise Failure(f'the job ended at once:\n{job.text()}')
    rows = []
    for _ in range(repetitions):
      for fabric in fabrics:
        rows.append(one(cluster, job, size, fabric))
    with open(stop, 'w', encoding='ascii'):
      pass
    code = job.wait(120)
    if code != 0 or 'memory ok' not in job.lines:
      tail = '\n'.join(job.lines[-10:])
      raise Failure(f'the job with {size} MB ended with status {code}:\n{tail}')
    for row in rows:
      row['gap_ms'] = longest_gap(job, row['from'], row['until'])
    return rows
  finally:
    job.kill()
    if os.path.exists(stop):
      os.remove(stop)


def one(cluster, job, size, fabric):
  mover = job.containers[0]
  source = cluster.where()[mover]
  target = cluster.nodes[0] if source != cluster.nodes[0] else cluster.nodes[-1]
  began = time.time()
  report = cluster.migrate(mover, target, fabric, timeout=600)
  if report.get('outcome') != 'committed':
    raise Failure(f'migration of {size} MB over {fabric}: {json.dumps(report)}')
  row = {'size_mb': size, 'fabric': fabric, 'from': began, 'until': time.time() + 0.5, **report}
  say(f'{size} MB over {fabric}: downtime {report["downtime_ms"]:.0f} ms, '
      f'total {report["total_ms"]:.0f} ms')
  time.sleep(1.5)  # the gap ends after the report, and must not run into the next migration
  return row


def longest_gap(job, began, until):
  gaps = [float(ms) for _, ms, at in GAP.findall(job.text()) if began <= float(at) <= until]
  return max(gaps, default=0.0)


def spread(values):
  return {'median': round(statistics.median(values), 3), 'min': min(values), 'max': max(values),
          'count': len(values)}


def summarize(rows, rate):
  size, fabric = rows[0]['size_mb'], rows[0]['fabric']
  out = {'size_mb': size, 'fabric': fabric, 'migrations': rows,
         'downtime_ms': spread([r['downtime_ms'] for r in rows]),
         'total_ms': spread([r['total_ms'] for r in rows]),
         'gap_ms': spread([r['gap_ms'] for r in rows]),
         'bytes_sent': spread([r['bytes_sent'] for r in rows]),
         'parts_ms': {p: spread([r['downtime_parts_ms'][p] for r in rows]) for p in PARTS}}
  sent = out['bytes_sent']['median']
  out['wire_ms'] = round(sent * 8 / rate * 1000, 1)
  out['criu_ms'] = round(sent / 1e9 * CRIU_S_PER_GB * 1000, 1)
  out['expected_ms'] = round(out['wire_ms'] + out['criu_ms'], 1)
  out['ratio'] = round(out['downtime_ms']['median'] / out['expected_ms'], 2)
  return out


def table(rows):
  head = ['MB', 'FABRIC', 'DOWNTIME', *(p.upper() for p in PARTS), 'GAP', 'TOTAL', 'SENT MB',
          'EXPECTED', 'RATIO']
  lines = [head]
  for row in rows:
    values = [row['downtime_ms'], *(row['parts_ms'][p] for p in PARTS), row['gap_ms'],
              row['total_ms']]
    sent = row['bytes_sent']['median'] / MB
    lines.append([str(row['size_mb']), row['fabric'], *(f'{v["median"]:.0f}' for v in values),
                  f'{sent:.0f}', f'{row["expected_ms"]:.0f}', f'{row["ratio"]:.2f}'])
    lines.append(['', '', *(f'{v["min"]:.0f}-{v["max"]:.0f}' for v in values), '', '', ''])
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  return '\n'.join('  '.join(cell.rjust(width) for cell, width in zip(line, widths)).rstrip()
                   for line in lines)


def main(args):
  sizes, repetitions = ([64, 256], 2) if args.quick else (args.sizes, args.repetitions)
  with open(args.file, encoding='utf-8') as file:
    rates = {f['name']: harness.rate_of(f['rate']) for f in yaml.safe_load(file)['fabrics']}
  fabrics = args.fabrics or list(rates)
  for fabric in fabrics:
    if fabric not in rates:
      raise Failure(f'{args.file} has no fabric {fabric!r}')
  build_program(harness.setup_environment())
  result = []
  with harness.Cluster(args) as cluster:
    load = os.getloadavg()[0]
    for size in sizes:
      rows = one_size(cluster, size, fabrics, repetitions)
      for fabric in fabrics:
        result.append(summarize([r for r in rows if r['fabric'] == fabric], rates[fabric]))
  print(f'\nmedian of {repetitions}, below it smallest-largest; ms; load before: {load:.1f}')
  print(table(result))
  if args.json:
    with open(args.json, 'w', encoding='utf-8') as file:
      json.dump({'benchmark': 'migrate', 'processors': os.cpu_count(), 'load_before': load,
                 'repetitions': repetitions, 'criu_s_per_gb': CRIU_S_PER_GB, 'rows': result}, file,
                indent=1)
  return 0
