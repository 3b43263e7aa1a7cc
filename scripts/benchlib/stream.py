"""Files of a directory over one TCP connection, uncompressed: how the baselines move CRIU's images.

  stream.py receive DIRECTORY ADDRESS PORT    listens, prints "listening", writes what comes
  stream.py send DIRECTORY ADDRESS PORT       connects at once, sends when a line comes on stdin

Both are started before the freeze, so that no start of a program is part of a downtime. Each prints
the number of bytes of the files at the end. On the wire: "NAME SIZE\\n" and the bytes, per file; the
receiver answers one byte when it has all.
"""
import os
import socket
import sys

PIECE = 1 << 20


def send(directory, address, port):
  connection = socket.create_connection((address, port), timeout=60)
  connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  sys.stdin.readline()
  total = 0
  for name in sorted(os.listdir(directory)):
    path = os.path.join(directory, name)
    if not os.path.isfile(path):
      continue
    with open(path, 'rb') as file:
      size = os.fstat(file.fileno()).st_size
      connection.sendall(f'{name} {size}\n'.encode())
      connection.sendfile(file)
    total += size
  connection.shutdown(socket.SHUT_WR)
  if connection.recv(1) != b'.':
    raise OSError('the receiver has not got all')
  return total


def receive(directory, address, port):
  listener = socket.create_server((address, port))
  print('listening', flush=True)
  connection, _ = listener.accept()
  stream = connection.makefile('rb', buffering=PIECE)
  buffer = memoryview(bytearray(PIECE))
  total = 0
  while line := stream.readline():
    name, size = line.decode().split()
    left = int(size)
    total += left
    with open(os.path.join(directory, os.path.basename(name)), 'wb', buffering=0) as file:
      while left:
        got = stream.readinto1(buffer[:min(left, PIECE)])
        if got == 0:
          raise OSError('the sender is gone')
        file.write(buffer[:got])
        left -= got
  connection.sendall(b'.')
  return total


if __name__ == '__main__':
  print({'send': send, 'receive': receive}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4])),
        flush=True)
