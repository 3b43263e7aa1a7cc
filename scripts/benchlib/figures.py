"""Spreads, tables, and what a measurement must say of the machine it was made on."""
import json
import os
import platform
import statistics
import subprocess

from benchlib.harness import ROOT


def spread(values, digits=3):
  """{median, min, max, count} of numbers; None for none."""
  values = [value for value in values if value is not None]
  if not values:
    return None
  return {'median': round(statistics.median(values), digits), 'min': round(min(values), digits),
          'max': round(max(values), digits), 'count': len(values)}


def cell(found, digits=0):
  return '-' if found is None else f'{found["median"]:.{digits}f}'


def range_cell(found, digits=0):
  return '' if found is None else f'{found["min"]:.{digits}f}-{found["max"]:.{digits}f}'


def table(lines):
  """Right-aligned columns; the first line is the head."""
  widths = [max(len(str(line[i])) for line in lines) for i in range(len(lines[0]))]
  return '\n'.join('  '.join(str(cell).rjust(width) for cell, width in zip(line, widths)).rstrip()
                   for line in lines)


def said(*command):
  try:
    done = subprocess.run(command, text=True, capture_output=True, check=False, timeout=30)
  except OSError:
    return None
  return done.stdout.strip() or None


def machine(build):
  """Kernel, processors, commit and load: what any figure depends on."""
  return {'kernel': platform.release(), 'processors': os.cpu_count(),
          'memory_bytes': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'),
          'commit': said('git', '-C', ROOT, 'describe', '--always', '--dirty'),
          'build': build, 'load_before': os.getloadavg()[0]}


def environment(cluster):
  """The same, and programs and wires: what a figure from a lab depends on."""
  criu = (said(cluster.environment['CRIU'], '--version') or '').split('\n')[0]
  runc = (said('runc', '--version') or '').split('\n')[0]
  return {**machine(cluster.build), 'criu': criu, 'runc': runc, 'wire_bit_per_s': cluster.rates}


def save(path, result):
  if path:
    with open(path, 'w', encoding='utf-8') as file:
      json.dump(result, file, indent=1)
      file.write('\n')
