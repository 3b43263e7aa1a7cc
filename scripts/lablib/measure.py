"""How fast the lab's fabrics are: one TCP stream and a ping-pong between two nodes."""
import os
import socket
import statistics
import time

from lablib import base
from lablib.base import LabError

PORT = 7499
WARM_UP = 0.5     # seconds not counted: the shaper's bucket is full at first
ROUND_TRIPS = 1000
CHUNK = 1 << 18


def in_node(init, work):
  """Runs work() in a child inside the node's network; returns (pid, pipe with its answer)."""
  result, report = os.pipe()
  pid = os.fork()
  if pid == 0:
    code = 1
    try:
      base.die_with_parent()
      init.enter(base.CLONE_NEWNET)
      os.write(report, str(work()).encode())
      code = 0
    except (OSError, LabError) as error:
      os.write(report, f'error {error}'.encode())
    finally:
      os._exit(code)
  os.close(report)
  return pid, os.fdopen(result)


def collect(child):
  pid, pipe = child
  with pipe:
    answer = pipe.read()
  os.waitpid(pid, 0)
  if not answer or answer.startswith('error'):
    raise LabError(f'the measurement failed: {answer or "its process ended"}')
  return float(answer)


def listener(address):
  sock = socket.socket()
  sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  sock.bind((address, PORT))
  sock.listen(1)
  sock.settimeout(10)
  return sock


def connect(address):
  for _ in range(1000):
    try:
      sock = socket.create_connection((address, PORT), 10)
      sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      return sock
    except ConnectionRefusedError:
      time.sleep(0.01)
  raise LabError(f'{address}:{PORT} refuses connections')


def throughput(source, target, address, seconds):
  """Gb/s from one init's network to the other's."""
  def receive():
    peer, _ = listener(address).accept()
    buffer = bytearray(4 * CHUNK)
    total, start, end = 0, None, time.monotonic() + WARM_UP
    while True:
      got = peer.recv_into(buffer)
      now = time.monotonic()
      if start is not None:
        total += got
      elif now >= end:
        start = now
      if not got or (start is not None and now - start >= seconds):
        return total * 8 / (now - start) / 1e9

  def send():
    sock, data = connect(address), bytes(CHUNK)
    sent = 0
    try:
      while True:
        sent += sock.send(data)
    except OSError:
      return sent  # the receiver has seen enough

  receiver, sender = in_node(target, receive), in_node(source, send)
  rate = collect(receiver)
  collect(sender)
  return rate


def latency(source, target, address):
  """The median round trip in microseconds."""
  def answer():
    peer, _ = listener(address).accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while peer.send(peer.recv(1) or b'x') and peer.recv(1, socket.MSG_PEEK):
      pass
    return 0

  def ask():
    sock, times = connect(address), []
    for _ in range(ROUND_TRIPS):
      start = time.monotonic()
      sock.send(b'x')
      sock.recv(1)
      times.append(time.monotonic() - start)
    return statistics.median(times) * 1e6

  server, client = in_node(target, answer), in_node(source, ask)
  median = collect(client)
  collect(server)
  return median


def run(lab, first, second, seconds):
  """Every fabric, both directions: [{fabric, from, to, gbit_s, round_trip_us}]"""
  out = []
  for fabric in lab.state['fabrics']:
    for source, target in ((first, second), (second, first)):
      address = lab.node(target)['addresses'][fabric]
      ends = (lab.running(source), lab.running(target), address)
      out.append({'fabric': fabric, 'from': source, 'to': target,
                  'gbit_s': round(throughput(*ends, seconds), 3),
                  'round_trip_us': round(latency(*ends), 1)})
  return out
