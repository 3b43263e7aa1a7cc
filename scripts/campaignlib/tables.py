"""What the runs gave, as tables: one line per run, per migration, per round and per value measured over time, and one
entry per cell."""
import csv
import os
import re
import statistics

from benchlib import figures
from benchlib.harness import PARTS
from campaignlib import statistics_of
from campaignlib.spec import FACTORS, describe
from lablib.base import read

FACTOR_NAMES = list(FACTORS)


def cpu_model():
  found = re.search(r'^model name\s*:\s*(.*)$', read('/proc/cpuinfo'), re.MULTILINE)
  return found.group(1) if found else None


def mpich_version():
  found = re.search(r'Version:\s*(\S+)', figures.said('mpiexec.mpich', '--version') or '')
  return found.group(1) if found else None


def reports(record):
  return [m['report'] for m in record['migrations'] if m['report'].get('outcome') == 'committed']


def run_row(record):
  moves = reports(record)
  downtimes = [report['downtime_ms'] for report in moves]
  return {**{name: record[name] for name in ('number', 'block', *FACTOR_NAMES, 'state')},
          'time_s': record.get('time_s'), 'wall_s': record.get('wall_s'),
          'migrating_s': record.get('migrating_s'), 'migrations': len(moves),
          'downtime_sum_ms': round(sum(downtimes), 3), 'downtime_max_ms': max(downtimes, default=0),
          'bytes_sent': sum(report['bytes_sent'] for report in moves), 'stall_s': record.get('stall_s'),
          'cpu_s': round(sum(record.get('cpu_s', {}).values()), 3), 'problems': len(record['problems'])}


def migration_row(record, index, entry):
  report, memory = entry['report'], entry['report'].get('memory', {})
  parts = report.get('downtime_parts_ms', {})
  return {'run': record['number'], 'migration': index, **{name: record[name] for name in FACTOR_NAMES},
          'container': entry['container'], 'source': entry['source'], 'target': entry['target'],
          'asked_at_s': entry['at_s'], 'outcome': report.get('outcome', 'refused'),
          'downtime_ms': report.get('downtime_ms'), **{f'{part}_ms': parts.get(part) for part in PARTS},
          **{name: report.get(name) for name in ('total_ms', 'queued_ms', 'preflight_ms', 'pre_copy_ms',
                                                 'resident_bytes', 'bytes_sent', 'frozen_bytes')},
          'rounds': len(report.get('rounds', ())),
          **{name: memory.get(name) for name in ('pages', 'pages_frozen', 'pages_zero', 'pages_duplicate',
                                                 'pages_compressed', 'bytes_raw', 'bytes_on_wire')},
          'state_differences': len(entry['differences']) if 'differences' in entry else None}


def round_rows(record, index, entry):
  for number, measured in enumerate(entry['report'].get('rounds', ()), 1):
    values = {**measured, **measured.get('decision', {})}
    yield {'run': record['number'], 'migration': index, **{name: record[name] for name in FACTOR_NAMES},
           'round': number, **{key: value for key, value in values.items() if not isinstance(value, (dict, list))}}


def series_rows(record):
  for series in record.get('series', ()):
    for at, value in series['points']:
      yield {'run': record['number'], **{name: record[name] for name in FACTOR_NAMES}, 'series': series['name'],
             'unit': series['unit'], 'at_s': at, 'value': value}


def write_csv(path, rows):
  with open(path, 'w', encoding='utf-8', newline='') as file:
    if rows:
      writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
      writer.writeheader()
      writer.writerows(rows)


def write(directory, records):
  moves = [(record, i, m) for record in records for i, m in enumerate(record['migrations'], 1)]
  write_csv(os.path.join(directory, 'runs.csv'), [run_row(record) for record in records])
  write_csv(os.path.join(directory, 'migrations.csv'), [migration_row(*move) for move in moves])
  write_csv(os.path.join(directory, 'rounds.csv'), [row for move in moves for row in round_rows(*move)])
  write_csv(os.path.join(directory, 'series.csv'), [row for record in records for row in series_rows(record)])


# ---- results

def compare_results(spec, records):
  """[(number, what is not equal)]. Runs of as many containers are compared with the first that was left
  alone and gave a result; if there is none, with the first."""
  out, groups = [], {}
  for record in records:
    if 'results' in record:
      groups.setdefault((record['application'], record['containers']), []).append(record)
  for (name, _), group in groups.items():
    reference = next((r for r in group if not r['at_once'] and r['state'] == 'done'), group[0])
    for record in group:
      found = spec.applications[name].differences(record['results'], reference['results'])
      out += [(record['number'], line) for line in found]
  return sorted(out)


# ---- cells

def cell_of(record):
  return tuple(record[name] for name in FACTOR_NAMES)


def pairs_of(records, cell_records):
  """[(time left alone, time with migrations)] of the blocks that have both."""
  out = []
  for record in cell_records:
    alone = [r['time_s'] for r in records if r['state'] == 'done' and not r['at_once'] and all(
      r[key] == record[key] for key in ('block', 'application', 'containers'))]
    if alone:
      out.append((statistics.fmean(alone), record['time_s']))
  return out


def summarize_cell(records, cell):
  mine = [record for record in records if cell_of(record) == cell]
  good = [record for record in mine if record['state'] == 'done']
  moves = [report for record in good for report in reports(record)]
  out = {**dict(zip(FACTOR_NAMES, cell)), 'runs': len(mine), 'failed': len(mine) - len(good),
         'time_s': statistics_of.describe([record['time_s'] for record in good])}
  if cell[FACTOR_NAMES.index('at_once')]:
    out.update(
      downtime_ms=statistics_of.describe([report['downtime_ms'] for report in moves]),
      total_ms=statistics_of.describe([report['total_ms'] for report in moves]),
      migrating_s=statistics_of.describe([record.get('migrating_s') for record in good]),
      stopped_s=statistics_of.describe(
        [sum(r['downtime_ms'] for r in reports(record)) / 1000 for record in good]),
      stall_s=statistics_of.describe([record.get('stall_s') for record in good]),
      overhead=statistics_of.paired(pairs_of(records, good)))
  return out


def summarize_sizes(records):
  """What migrations cost an application, over jobs of all sizes: one entry per way of moving, its pairs those of all
  numbers of containers."""
  groups = {}
  for record in records:
    if record['state'] == 'done' and record['at_once'] and pairs_of(records, [record]):
      groups.setdefault(tuple(record[name] for name in FACTOR_NAMES if name != 'containers'), []).append(record)
  out = []
  for key, mine in groups.items():
    stopped = statistics.fmean(sum(r['downtime_ms'] for r in reports(record)) / 1000 for record in mine)
    overhead = statistics_of.paired(pairs_of(records, mine))
    out.append({**dict(zip([name for name in FACTOR_NAMES if name != 'containers'], key)),
                'containers': sorted({record['containers'] for record in mine}), 'overhead': overhead,
                'stopped_s': stopped, 'overhead_of_stopped': overhead['mean_s'] / stopped if stopped else None})
  order = list(dict.fromkeys(record['application'] for record in records))
  return sorted(out, key=lambda e: (order.index(e['application']), e['fabric'], e['mode'], e['at_once'], e['cycles']))


def summarize(spec, plan, records, environment, interrupted):
  cells = [summarize_cell(records, cell_of(cell)) for cell in spec.cells]
  failed = [record for record in records if record['state'] != 'done']
  not_equal = compare_results(spec, records)
  compared = [record for record in records if 'results' in record]
  return {'campaign': spec.name, 'about': spec.about, 'seed': spec.seed, 'planned': len(plan),
          'runs': len(records), 'failed': len(failed), 'interrupted': interrupted,
          'migrations': sum(len(reports(record)) for record in records),
          'results_equal': bool(compared) and not not_equal,
          'not_equal': [f'run {number}: {line}' for number, line in not_equal],
          'problems': [f'run {record["number"]} ({describe(record)}): {line}' for record in failed
                       for line in record['problems']],
          'spoilt': [f'run {r["number"]}: {r["spoilt"]}' for r in records if r.get('spoilt')],
          'interval': 'percentile bootstrap of the mean, 95 %, 10000 resamples; pairs within a block',
          'sizes': summarize_sizes(records), 'cells': cells, 'environment': environment}


# ---- for people

def interval(found, key, unit):
  if found is None:
    return '-', '-'
  low_high = found[f'interval_{key}']
  return f'{found[f"mean_{key}"]:.1f} {unit}', \
    '-' if low_high is None else f'{low_high[0]:.1f} to {low_high[1]:.1f}'


def number(found, key='mean', digits=1):
  return '-' if found is None or found[key] is None else f'{found[key]:.{digits}f}'


def rows_for_people(summary):
  head = ['APPLICATION', 'CONTAINERS', 'AT ONCE', 'NET', 'MODE', 'RUNS', 'FAILED', 'TIME s', 'SD',
          'OVERHEAD %', '95 %', 'STOPPED s', 'DOWNTIME ms', 'MAX', 'MIGRATING s']
  lines = [head]
  for cell in summary['cells']:
    moved = bool(cell['at_once'])
    overhead, spread = interval(cell.get('overhead'), 'percent', '') if moved else ('', '')
    lines.append([cell['application'], cell['containers'], cell['at_once'], cell['fabric'], cell['mode'],
                  cell['runs'], cell['failed'], number(cell['time_s']), number(cell['time_s'], 'sd'),
                  overhead.strip(), spread] + ([
                    number(cell['stopped_s'], digits=2), number(cell['downtime_ms'], 'median', 0),
                    number(cell['downtime_ms'], 'max', 0), number(cell['migrating_s'])] if moved else [''] * 4))
  return lines


def sizes_for_people(summary):
  lines = [['APPLICATION', 'CONTAINERS', 'AT ONCE', 'NET', 'MODE', 'PAIRS', 'OVERHEAD s', '95 %', 'OVERHEAD %', '95 %',
            'STOPPED s', 'OVERHEAD / STOPPED']]
  for entry in summary['sizes']:
    overhead, sizes = entry['overhead'], entry['containers']
    ratio = entry['overhead_of_stopped']
    lines.append([entry['application'], f'{sizes[0]} to {sizes[-1]}' if len(sizes) > 1 else sizes[0], entry['at_once'],
                  entry['fabric'], entry['mode'], overhead['pairs'], *interval(overhead, 's', ''),
                  *interval(overhead, 'percent', ''), f'{entry["stopped_s"]:.2f}',
                  '-' if ratio is None else f'{ratio:.1f}'])
  return lines


def show(summary):
  return figures.table(rows_for_people(summary))
