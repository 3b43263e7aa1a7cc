#!/usr/bin/python3
"""Writes lifeboat.yaml(5), in roff, from the comments of configs/lifeboat.yaml.

  configs/man/lifeboat.yaml.py FILE PAGE

What the file says of a key, before it or on its line, is what the page says of it; what it says at its top
is the page's description. A key that is commented out, as optional ones without a default are, counts.
"""
import re
import sys

KEY = re.compile(r'( *)((?:# *)?)(- )?([a-z_]+):(?: +(.*))?$')
PLAIN = re.compile(r'[^ ]*$|[\[{"].*')   # what a value looks like, where a sentence could be meant
HEAD = r'''.TH LIFEBOAT.YAML 5 "" Lifeboat "File Formats"
.SH NAME
lifeboat.yaml \- configuration of Lifeboat's daemon
.SH SYNOPSIS
.I /etc/lifeboat/lifeboat.yaml
.SH DESCRIPTION
'''
TAIL = r'''.SH "SEE ALSO"
.BR lifeboatd (8),
.BR lifeboat (1)
'''


def roff(text):
  text = text.replace('\\', r'\e').replace('-', r'\-')
  return r'\&' + text if text[:1] in ('.', "'") else text


def text_of(comment):
  """A comment as a paragraph; its indented lines, a table, stay as they are."""
  out, table = [], False
  for line in comment:
    indented = line.startswith(' ')
    if indented != table:
      out.append('.nf' if indented else '.fi')
    out.append(roff(line))
    table = indented
  return out + ['.fi'] * table


class Page:
  def __init__(self):
    self.description, self.keys, self.seen, self.path = [], [], set(), []

  def add(self, indent, name, value, comment):
    while self.path and self.path[-1][0] >= indent:
      self.path.pop()
    self.path.append((indent, name))
    path = '.'.join(part for _, part in self.path)
    if path in self.seen:   # in a second entry of a list
      return
    self.seen.add(path)
    title = f'{path}: {value}' if value else path
    self.keys += [f'.SS {quoted(title)}'] if len(self.path) == 1 else ['.TP', f'.B {quoted(title)}']
    self.keys += text_of(comment)


def quoted(text):
  return '"' + roff(text).replace('"', '""') + '"'


def split(value):
  """A value, and the comment behind it."""
  value, _, behind = (' ' + (value or '')).partition(' # ')
  return value.strip(), [behind.strip()] if behind else []


def main(path, out):
  with open(path, encoding='utf-8') as file:
    lines = file.read().splitlines()
  page, comment, top = Page(), [], True
  for line in lines:
    match = KEY.match(line)
    if match:
      spaces, hidden, item, name, rest = match.groups()
      value, behind = split(rest)
      if not hidden or PLAIN.match(value):
        # "#   file:" is as deep as "  file:" would be; the keys of a list's entry are deeper than the list.
        indent = len(spaces) + max(0, len(hidden) - 2) + (2 if item else 0)
        page.add(indent, name, value, comment + behind)
        comment, top = [], False
        continue
    text = line.strip()
    if text.startswith('#'):
      comment.append(text[1:].removeprefix(' '))
    elif top and comment:   # a paragraph before the first key
      page.description += [*text_of(comment), '.PP']
      comment = []
  if comment:
    sys.exit(f'{path}: a comment at the end belongs to no key: {comment[0]}')
  with open(out, 'w', encoding='utf-8') as file:
    file.write(HEAD + '\n'.join(page.description[:-1]) + '\n.SH KEYS\n' + '\n'.join(page.keys) + '\n' + TAIL)


if __name__ == '__main__':
  main(*sys.argv[1:])
