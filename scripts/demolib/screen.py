"""Output for people: plain lines, and on a terminal a block at the end that is drawn again and
again while something moves."""
import os
import shutil
import sys

WIDTH = 100


class Gone(Exception):
  """Nobody reads the output any more."""


class Screen:
  def __init__(self, stream):
    self.stream = stream
    self.terminal = stream.isatty() and os.environ.get('TERM', 'dumb') != 'dumb'
    self.colours = self.terminal and not os.environ.get('NO_COLOR')
    self.drawn = 0   # lines of the moving block
    self.lost = False

  def write(self, text):
    if self.lost:
      return
    try:
      self.stream.write(text)
      self.stream.flush()
    except (BrokenPipeError, ValueError):
      self.lost = True
      os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
      raise Gone('nobody reads the output any more') from None

  def erase(self):
    out = f'\x1b[{self.drawn}F\x1b[J' if self.drawn else ''
    self.drawn = 0
    return out

  def say(self, *lines):
    self.write(self.erase() + ''.join(line.rstrip() + '\n' for line in lines or ('',)))

  def live(self, *lines):
    """Replaces what the last call drew; nothing if this is not a terminal."""
    if self.terminal:
      width = shutil.get_terminal_size((WIDTH, 25)).columns - 1
      erase = self.erase()
      self.drawn = len(lines)
      self.write(erase + ''.join(line.rstrip()[:width] + '\n' for line in lines))

  def paint(self, code, text):
    return f'\x1b[{code}m{text}\x1b[0m' if self.colours else text

  def title(self, text):
    self.say('', self.paint('1', text), '')

  def good(self, text):
    return self.paint('32', text)

  def bad(self, text):
    return self.paint('1;31', text)


def table(rows, align):
  """Lines of a table; `align` has one of < and > for each column."""
  rows = [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*rows)]
  return ['  '.join(f'{cell:{side}{width}}' for cell, side, width
                    in zip(row, align, widths)).rstrip() for row in rows]


def open_screen(json_wanted):
  return Screen(sys.stderr if json_wanted else sys.stdout)
