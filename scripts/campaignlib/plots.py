"""Plots by gnuplot, as SVG text that stands in an HTML page."""
import csv
import os
import subprocess

from benchlib.harness import Failure

STUDY = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'study')
COLOURS = ['#1b6ca8', '#e08e0b', '#8fc1e3', '#f3cf87', '#777777', '#4c9f70']
WIDTH, HEIGHT = 760, 380


def gnuplot(commands, width=WIDTH, height=HEIGHT):
  head = [f'set terminal svg size {width},{height} font "sans-serif,12" background "#ffffff"',
          'set border 3', 'set tics nomirror', 'set grid ytics lc rgb "#dddddd"',
          'set key outside top center horizontal']
  try:
    done = subprocess.run(['gnuplot'], input='\n'.join([*head, *commands]) + '\n', text=True,
                          capture_output=True, check=False, timeout=60)
  except OSError as error:
    raise Failure(f'gnuplot: {error.strerror}: scripts/setup installs it') from None
  if done.returncode != 0 or '<svg' not in done.stdout:
    raise Failure(f'gnuplot: {done.stderr.strip()}')
  return done.stdout[done.stdout.index('<svg'):]


def bars(title, unit, categories, series):
  """Grouped bars with error bars: series is [(name, {category: (value, error)})], of which empty ones are left
  out; error 0: none."""
  series = [(name, values) for name, values in series if values]
  columns = []
  for category in categories:
    words = [f'"{category}"']
    for _, values in series:
      value, error = values.get(category, ('NaN', 'NaN'))
      words += [str(value), str(error or 0)]
    columns.append(' '.join(words))
  plots = [f'$data using {2 * i + 2}:{2 * i + 3}:xtic(1) title "{name}" lc rgb "{COLOURS[i % len(COLOURS)]}"'
           for i, (name, _) in enumerate(series)]
  return gnuplot(['$data << EOD', *columns, 'EOD', f'set title "{title}"', f'set ylabel "{unit}"',
                  # Error bars take the colours of the line types in turn.
                  *(f'set linetype {i} lc rgb "#333333"' for i in range(1, 9)),
                  'set style data histograms', 'set style histogram errorbars gap 1 lw 1',
                  'set style fill solid 0.9 noborder', 'set yrange [0:*]', 'set xlabel "containers"',
                  'plot ' + ', '.join(plots)])


def points(title, x_label, y_label, groups):
  """groups: {name: [(x, y)]}"""
  data, plots = [], []
  for i, (name, values) in enumerate(groups.items()):
    data += [f'$g{i} << EOD', *(f'{x} {y}' for x, y in values), 'EOD']
    plots.append(f'$g{i} using 1:2 with points pt 7 ps 0.6 lc rgb "{COLOURS[i % len(COLOURS)]}" title "{name}"')
  return gnuplot([*data, f'set title "{title}"', f'set xlabel "{x_label}"', f'set ylabel "{y_label}"',
                  'set yrange [0:*]', 'plot ' + ', '.join(plots)])


def frozen_spans(record, container=None):
  """[(migration, from, until)] of those that were committed, or of one container's, in seconds since all ran."""
  out = []
  for move in record['migrations']:
    report = move['report']
    if report.get('outcome') != 'committed' or container not in (None, move['container']):
      continue
    frozen = move['at_s'] + sum(report[part] for part in ('queued_ms', 'preflight_ms', 'pre_copy_ms')) / 1000
    out.append((move, frozen, frozen + report['downtime_ms'] / 1000))
  return out


def over_time(title, record, series):
  """What was measured while the job ran. Grey: a migration is going on; red: its container is frozen."""
  commands = []
  for move, frozen, done in frozen_spans(record):
    end = move['at_s'] + move['report']['total_ms'] / 1000
    for since, until, colour, solid in ((move['at_s'], end, '#bbbbbb', 0.35), (frozen, done, '#c0392b', 0.8)):
      commands.append(f'set object rectangle from {since}, graph 0 to {until}, graph 1 fc rgb "{colour}" '
                      f'fs solid {solid} noborder behind')
  label = f'{series["name"]}, {series["unit"]}'
  values = [value for _, value in series['points']]
  # A stall beside microseconds: only a logarithm shows both.
  scale = ['set logscale y'] if min(values) > 0 and max(values) > 100 * sorted(values)[len(values) // 2] \
    else ['set yrange [0:*]']
  return gnuplot(['$data << EOD', *(f'{at} {value}' for at, value in series['points']), 'EOD', *commands, *scale,
                  f'set title "{title}"', 'set xlabel "seconds since all containers ran"', f'set ylabel "{label}"',
                  f'plot $data using 1:2 with points pt 7 ps 0.4 lc rgb "{COLOURS[0]}" title "{series["name"]}", '
                  'NaN with boxes fs solid lc rgb "#dddddd" title "a migration", '
                  'NaN with boxes fs solid lc rgb "#c0392b" title "frozen"'], height=260)


def timeline(title, record):
  """Who was where, when: a line per container, coloured by node; a red mark where it was frozen."""
  names = sorted(record['placed'], key=lambda n: (n.rpartition('-')[0], int(n.rpartition('-')[2])))
  nodes = sorted({*record['placed'].values(), *(m['target'] for m in record['migrations'])})
  end, commands, stays = record.get('wall_s', 0), [], []
  for row, name in enumerate(names, 1):
    since, node = 0.0, record['placed'][name]
    for move, frozen, done in frozen_spans(record, name):
      stays.append((since, done, row, nodes.index(node)))
      commands.append(f'set object rectangle from {frozen},{row - 0.42} to {done},{row + 0.42} '
                      'fc rgb "#c0392b" fs solid noborder front')
      since, node = done, move['target']
    stays.append((since, end, row, nodes.index(node)))
  for start, stop, row, node in stays:
    commands.append(f'set object rectangle from {start},{row - 0.3} to {max(stop, start)},{row + 0.3} '
                    f'fc rgb "{COLOURS[node % len(COLOURS)]}" fs solid noborder')
  tics = ', '.join(f'"{name}" {row}' for row, name in enumerate(names, 1))
  legend = [f'NaN with boxes fs solid lc rgb "{COLOURS[i % len(COLOURS)]}" title "{node}"'
            for i, node in enumerate(nodes)] + ['NaN with boxes fs solid lc rgb "#c0392b" title "frozen"']
  return gnuplot([f'set title "{title}"', *commands, f'set ytics ({tics})', 'unset grid',
                  f'set yrange [{len(names) + 0.7}:0.3]', f'set xrange [0:{end or 1}]',
                  'set xlabel "seconds since all containers ran"', 'plot ' + ', '.join(legend)],
                 height=130 + 34 * len(names))


# ---- the study's own figures

def study_rows(name):
  with open(os.path.join(STUDY, name), encoding='utf-8', newline='') as file:
    return list(csv.DictReader(file))


def of_study(application, at_once):
  """Series as for bars(): its runs with so many migrations at once over each fabric, and without any."""
  out = []
  rows = study_rows('runtimes.csv')
  for title, fabric, count in ((f'{application}, 10g', '10g', at_once), (f'{application}, 1g', '1g', at_once),
                               (f'{application} alone', 'none', 0)):
    values = {}
    for row in rows:
      if (row['app'], row['fabric'], int(row['simultaneous'])) == (application, fabric, count):
        values.setdefault(int(row['containers']), []).append(float(row['seconds']))
    out.append((title, values))
  return out
