"""scripts/demo, once all is built."""
import contextlib
import json
import os
import signal
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from demolib.cluster import Failure, deaf
from demolib.evacuation import Evacuation
from demolib.manual import Manual
from demolib.screen import Gone, open_screen


class Interrupted(Exception):
  def __init__(self, signo):
    super().__init__(f'interrupted by {signal.Signals(signo).name}')
    self.signo = signo


def interrupt(signo, _):
  raise Interrupted(signo)


def main():
  build, bundle, size, manual, json_wanted = sys.argv[1:]
  screen = open_screen(json_wanted == 'yes')
  if int(manual):
    demo = Manual(build, bundle, int(size), screen, int(manual))
  else:
    demo = Evacuation(build, bundle, int(size), screen)
  status = None
  try:
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      signal.signal(signo, interrupt)
    demo.run()
    demo.summary()
  except Interrupted as stop:
    deaf()
    status = 128 + stop.signo
    demo.deviations.append(str(stop))
  except Gone as gone:
    status = 2
    demo.deviations.append(str(gone))
  except (Failure, OSError) as problem:
    status = 1 if demo.still else 2
    demo.deviations.append(str(problem))
  except Exception as problem:  # a fault of this program: clean up, then say all about it
    status = 2
    demo.deviations.append(f'{type(problem).__name__}: {problem}')
    raise
  finally:
    deaf()
    if any(demo.deviations[:-1] if status and status > 128 else demo.deviations):
      with contextlib.suppress(OSError):
        demo.logs = demo.cluster.keep_logs()
    for problem in demo.cluster.down():
      demo.deviations.append(f'left behind: {problem}')
    demo.verdict()
    if json_wanted == 'yes':
      print(json.dumps(demo.figures()), flush=True)
  return status if status is not None else 1 if demo.deviations else 0


if __name__ == '__main__':
  sys.exit(main())
