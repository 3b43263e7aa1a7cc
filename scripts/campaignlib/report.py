"""The report: report.html, which needs no other file, and report.md with its plots in plots/."""
import html
import os
import re

from campaignlib import plots, statistics_of, tables
from campaignlib.spec import describe

STYLE = '''body { font: 15px/1.5 sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 2px 8px; text-align: right;
white-space: nowrap; border-bottom: 1px solid #ddd } svg { max-width: 100%; height: auto } .bad { color: #b03020 }'''
SETUP = ('The study (F. Romero, Purdue University, 2010; figures from its appendices) moved OpenVZ virtual '
         'machines of 30 GB between real servers over real networks, with HPL and OMEN under LAM/MPI and MPICH2 '
         'running for minutes; here containers move between namespaces of one machine, whose processors all of '
         'them share, over shaped virtual networks, with smaller problems, and OMEN is replaced by a program of '
         'the same kind. Times are not comparable, ratios to a run that is left alone are. '
         'Its runs are not in blocks, so its differences are not paired.')


def entry(found):
  return (found['mean'], found['sd'] or 0)


class Report:
  def __init__(self):
    self.parts = []   # (kind, content): heading, text, bad, table, plot

  def heading(self, text):
    self.parts.append(('heading', text))

  def text(self, text, bad=False):
    self.parts.append(('bad' if bad else 'text', text))

  def table(self, rows):
    self.parts.append(('table', rows))

  def plot(self, name, svg):
    self.parts.append(('plot', (re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-'), name, svg)))

  def html(self, title):
    out = [f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>',
           f'<h1>{html.escape(title)}</h1>']
    for kind, content in self.parts:
      if kind == 'heading':
        out.append(f'<h2>{html.escape(content)}</h2>')
      elif kind in ('text', 'bad'):
        out.append(f'<p class="{kind}">{html.escape(content)}</p>')
      elif kind == 'table':
        lines = [''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in row)
                 for tag, row in zip(['th'] + ['td'] * len(content), content)]
        out.append('<table>' + ''.join(f'<tr>{line}</tr>' for line in lines) + '</table>')
      else:
        # Names inside an SVG are those of the page: each plot gets its own.
        out.append(re.sub(r'(id=[\'"]|href=[\'"]#|url\(#)', rf'\g<1>{content[0]}-', content[2]))
    return '\n'.join(out) + '\n'

  def markdown(self, title, directory):
    os.makedirs(os.path.join(directory, 'plots'), exist_ok=True)
    out = [f'# {title}', '']
    for kind, content in self.parts:
      if kind == 'heading':
        out += [f'## {content}', '']
      elif kind in ('text', 'bad'):
        out += [content, '']
      elif kind == 'table':
        lines = ['| ' + ' | '.join(map(str, row)) + ' |' for row in content]
        out += [lines[0], '|' + '---:|' * len(content[0]), *lines[1:], '']
      else:
        with open(os.path.join(directory, 'plots', f'{content[0]}.svg'), 'w', encoding='utf-8') as file:
          file.write(content[2])
        out += [f'![{content[1]}](plots/{content[0]}.svg)', '']
    return '\n'.join(out)


# ---- its sections

def opening(out, summary):
  out.text(f'{summary["about"]} {summary["runs"]} of {summary["planned"]} runs made, {summary["failed"]} failed, '
           f'{summary["interrupted"]} interrupted and made again; {summary["migrations"]} migrations. '
           f'Seed {summary["seed"]}.')
  if summary['results_equal']:
    out.text('The results of all runs of one application on as many containers are equal, with and without '
             'migrations.')
  for line in summary['not_equal'] + summary['problems'] + summary['spoilt']:
    out.text(line, bad=True)
  for about in summary['environment'][-1:]:
    out.text(f'{about["cpu"]}, {about["processors"]} processors; Linux {about["kernel"]}; CRIU {about["criu"]}; '
             f'MPICH {about["mpich"]}; Lifeboat {about["commit"]}; load before: {about["load_before"]:.1f}. All '
             'nodes share these processors: what else ran is part of the result.')


def overheads(out, summary):
  out.heading('What migrations cost')
  if summary['sizes']:
    out.text('Of jobs of all sizes together: the mean over pairs of a run with migrations and those left alone with as '
             f'many containers in the same block; {summary["interval"]}. Stopped: sum of the downtimes of a run.')
    out.table(tables.sizes_for_people(summary))
  out.heading('What migrations cost, by the number of containers')
  out.text('Time: by the application\'s own clock. Overhead: of the runs with migrations over those left alone in '
           f'the same block; {summary["interval"]}; "-" where there are fewer than three pairs. Stopped: sum of the '
           'downtimes of a run.')
  out.table(tables.rows_for_people(summary))


def cells_of(summary, application, at_once):
  return [c for c in summary['cells'] if (c['application'], c['at_once']) == (application, at_once)]


def series_of(summary, application, at_once):
  """As the study's figures have them: over each fabric, migrations alone, the application alone."""
  out = []
  cells = cells_of(summary, application, at_once)
  for fabric in dict.fromkeys(c['fabric'] for c in cells):
    for mode in dict.fromkeys(c['mode'] for c in cells):
      values = {c['containers']: entry(c['time_s']) for c in cells
                if (c['fabric'], c['mode']) == (fabric, mode) and c['time_s']}
      out.append((f'{application}, {fabric}, {mode}', values))
  for fabric in dict.fromkeys(c['fabric'] for c in cells):
    values = {c['containers']: entry(c['migrating_s']) for c in cells if c['fabric'] == fabric and c['migrating_s']}
    out.append((f'its migrations, {fabric}', values))
  out.append((f'{application} alone', {c['containers']: entry(c['time_s'])
                                       for c in cells_of(summary, application, 0) if c['time_s']}))
  return out


def applications(out, spec, summary):
  for name, app in spec.applications.items():
    if app.stop_file:
      continue
    for at_once in dict.fromkeys(c['at_once'] for c in summary['cells'] if c['application'] == name):
      if not at_once:
        continue
      series = series_of(summary, name, at_once)
      categories = sorted({key for _, values in series for key in values})
      if not categories:
        continue
      title = f'{name}, {at_once} at once'
      out.heading(title)
      out.plot(title, plots.bars(f'{title}: mean and standard deviation', 'seconds', categories, series))
      study = [(label, {k: entry(statistics_of.describe(v)) for k, v in values.items()})
               for label, values in plots.of_study(name, at_once)]
      if any(values for _, values in study[:2]):
        out.plot(f'{title}, the study', plots.bars(f'The study: {title}', 'seconds', range(2, 12), study))


def alone(out, spec, summary):
  """How long all migrations took; of idle containers: figure 4.8 of the study."""
  cells = [c for c in summary['cells'] if spec.applications[c['application']].stop_file and c['at_once']
           and c['migrating_s']]
  if not cells:
    return
  out.heading('Migrations beside programs that run until they are told to stop')
  rows = [['APPLICATION', 'CONTAINERS', 'AT ONCE', 'NET', 'MODE', 'ALL MIGRATIONS s', 'SD', 'DOWNTIME ms',
           'MAX']]
  for c in cells:
    rows.append([c['application'], c['containers'], c['at_once'], c['fabric'], c['mode'],
                 tables.number(c['migrating_s'], digits=2), tables.number(c['migrating_s'], 'sd', 2),
                 tables.number(c['downtime_ms'], 'median', 0), tables.number(c['downtime_ms'], 'max', 0)])
  out.table(rows)
  study = {}
  for row in plots.study_rows('migrations_only.csv'):
    study.setdefault((row['app'], row['simultaneous'], row['fabric']), []).append(
      float(row['seconds_for_8_migrations']))
  out.text('The study, eight migrations without a parallel job (as with `idle`):')
  out.table([['APPLICATION', 'AT ONCE', 'NET', 'ALL MIGRATIONS s', 'SD']] + [
    [*key, tables.number(found), tables.number(found, 'sd')]
    for key, found in ((k, statistics_of.describe(v)) for k, v in study.items())])


def downtimes(out, records):
  groups = {}
  for record in records:
    for report in tables.reports(record):
      groups.setdefault(f'{record["application"]}, {record["fabric"]}', []).append(
        (report['resident_bytes'] / 1e6, report['downtime_ms']))
  if groups:
    out.heading('Downtime')
    out.plot('downtime', plots.points('Each migration', 'memory of the container, MB', 'downtime, ms', groups))


def last_moved(records):
  """The last good run of each cell with migrations."""
  return {tables.cell_of(r): r for r in records if r['state'] == 'done' and r['migrations']}.values()


def over_time(out, records):
  chosen = [(record, series) for record in last_moved(records) for series in record.get('series', ())
            if series['points']]
  if chosen:
    out.heading('While it was moved')
  for record, series in chosen:
    out.plot(f'run {record["number"]} {series["name"]}',
             plots.over_time(f'run {record["number"]}: {describe(record)}', record, series))


def timelines(out, records):
  """Of jobs that differ in nothing but their size, the largest."""
  largest = {}
  for record in last_moved(records):
    key = tuple(record[name] for name in ('application', 'at_once', 'fabric', 'mode'))
    if key not in largest or record['containers'] > largest[key]['containers']:
      largest[key] = record
  chosen = list(largest.values())
  if chosen:
    out.heading('Who was where, when')
  for record in chosen:
    title = f'run {record["number"]}: {describe(record)}'
    out.plot(title, plots.timeline(title, record))


def write(directory, spec, records, summary):
  out, title = Report(), f'Lifeboat campaign: {summary["campaign"]}'
  opening(out, summary)
  overheads(out, summary)
  applications(out, spec, summary)
  alone(out, spec, summary)
  downtimes(out, records)
  over_time(out, records)
  timelines(out, records)
  out.heading('The study that is repeated')
  out.text(SETUP)
  for name, text in (('report.html', out.html(title)), ('report.md', out.markdown(title, directory))):
    with open(os.path.join(directory, name), 'w', encoding='utf-8') as file:
      file.write(text)
