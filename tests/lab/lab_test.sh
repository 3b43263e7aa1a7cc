#!/usr/bin/env bash
# scripts/lab: two labs side by side, power cuts, crashes of everything, and nothing left behind.
# Exit status: 0 passed, 1 failed, 77 skipped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

skip() { echo "SKIP: $1"; exit 77; }
[[ $EUID -eq 0 ]] || skip "needs root"
for tool in ip tc nsenter; do
  command -v "$tool" >/dev/null || skip "needs $tool (iproute2, util-linux)"
done
/usr/bin/python3 -c 'import yaml' 2>/dev/null || skip "needs python3-yaml"
grep -q cgroup2 /proc/self/mountinfo || skip "needs cgroup2 mounted"
unshare --net true 2>/dev/null || skip "may not make network namespaces"

work=$(mktemp -d)
export LIFEBOAT_LAB_DIR=$work/labs
one=t1-$$ two=t2-$$

lab() { "$here/scripts/lab" --name "$@"; }
step() { echo "-- $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
expect_fail() {  # expect_fail TEXT COMMAND...: fails, and says TEXT
  local text=$1 out
  shift
  if out=$("$@" 2>&1); then fail "should have failed: $*"; fi
  [[ $out == *"$text"* ]] || fail "expected '$text' from: $* -- got: $out"
}
cleanup() {
  local status=$?
  lab "$one" down >/dev/null || true
  lab "$two" down >/dev/null || true
  rm -rf --one-file-system "$work"
  exit "$status"
}
trap cleanup EXIT

# What a lab could leave: processes, mounts, links and control groups of ours on the machine.
traces() {
  grep -lsaE "_node.lifeboat-lab:t[12]-$$:" /proc/[0-9]*/cmdline | sed 's/^/process /' || true
  awk -v w="$work/" 'index($5, w) == 1 {print "mount", $5}' /proc/self/mountinfo
  ip -o link | awk -F'[ @:]+' '$2 ~ /^(br|up|head|n[0-9])-/ {print "link", $2}'
  awk '/ - cgroup2? / {print $5}' /proc/self/mountinfo | sort -u | while read -r point; do
    find "$point/lifeboat-lab/$one" "$point/lifeboat-lab/$two" -type d 2>/dev/null || true
  done
}
nothing_left() {
  local now
  now=$(traces)
  [[ $now == "$before" ]] || fail "$1: left behind: $(diff <(echo "$before") <(echo "$now"))"
  [[ -z $(ls -A "$LIFEBOAT_LAB_DIR" 2>/dev/null) ]] || fail "$1: $(ls -A "$LIFEBOAT_LAB_DIR") left"
}
before=$(traces)

# A stand-in for the daemon: answers GET /v1/status, or misbehaves as FAKE says.
mkdir "$work/build"
cat >"$work/build/lifeboatd" <<'FAKE'
#!/usr/bin/python3
import http.server, os, socket, socketserver, sys, time
mode = os.environ.get('FAKE', 'good')
print('fake lifeboatd', *sys.argv[1:], flush=True)
if mode == 'fails' and 'n2' in sys.argv:
  sys.exit('cannot do it')
if mode == 'hangs':
  time.sleep(1000)
class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    self.send_response(200 if self.path == '/v1/status' else 404)
    self.end_headers()
  def log_message(self, *args):
    pass
if os.path.exists('/run/lifeboat/api.sock'):
  os.unlink('/run/lifeboat/api.sock')
socketserver.UnixStreamServer('/run/lifeboat/api.sock', Handler).serve_forever()
FAKE
# One for the starter, which nobody asks for anything here.
cat >"$work/build/lifeboat-starter" <<'FAKE'
#!/usr/bin/python3
import signal, socket, sys
listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind(sys.argv[sys.argv.index('--socket') + 1])
listening.listen()
signal.pause()
FAKE
chmod +x "$work/build/lifeboatd" "$work/build/lifeboat-starter"
up=(up --build "$work/build")

step "two labs side by side"
start=$(date +%s%N)
lab "$one" up --no-daemon
echo "   up took $((($(date +%s%N) - start) / 1000000)) ms"
lab "$two" "${up[@]}"
[[ $(lab "$two" status | grep -c ' up ') -eq 4 ]] || fail "a daemon is not up: $(lab "$two" status)"
[[ $(lab "$two" exec n1 sh -c 'ps -o ppid= -C lifeboatd' | tr -d ' ') == 1 ]] ||
  fail "the daemon is not a child of its node's init"
[[ $(lab "$one" exec n1 hostname) == n1 ]] || fail "hostname in a node"
[[ $(cd /tmp && lab "$one" exec n1 pwd) == /tmp ]] || fail "exec does not keep the directory"
[[ $(lab "$two" exec n3 env | grep ^PATH=) == "PATH=$work/build:"* ]] || fail "PATH in a node"
lab "$one" exec n1 touch /var/lib/lifeboat/mine /run/mine
[[ -z $(lab "$two" exec n1 ls /var/lib/lifeboat) ]] || fail "state shared between labs"
[[ -z $(lab "$one" exec n2 ls /var/lib/lifeboat) ]] || fail "state shared between nodes"
[[ ! -e /run/mine ]] || fail "/run shared with the machine"
expect_fail "exists" lab "$one" up --no-daemon
LIFEBOAT_LAB_DIR=$work/other expect_fail "runs with its state in" lab "$one" down
code=0; lab "$one" exec n1 sh -c 'exit 42' || code=$?
[[ $code -eq 42 ]] || fail "exec: exit status $code instead of 42"
code=0; lab "$one" exec n1 /no/such/program 2>/dev/null || code=$?
[[ $code -eq 127 ]] || fail "exec: exit status $code instead of 127"
code=0; timeout -s TERM 1 "$here/scripts/lab" --name "$one" exec n1 \
  sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' 2>/dev/null || code=$?
[[ -z $(lab "$one" exec n1 sh -c 'pgrep -f [t]rap') ]] || fail "exec: SIGTERM was not passed on"

step "the fabrics carry traffic, and only inside the lab"
lab "$one" measure --seconds 0.5
lab "$one" link n3 down
expect_fail "failed" lab "$one" exec n2 /usr/bin/python3 -c '
import socket, sys
try: socket.create_connection(("n3", 1), 0.5)
except ConnectionRefusedError: print("reached")
except OSError: sys.exit("failed")'
lab "$one" link n3 up

step "snapshots: equal while nothing happens, different after a leak"
lab "$one" snapshot --json >"$work/snapshot"
lab "$one" snapshot --diff "$work/snapshot" || fail "two snapshots in a row differ"
lab "$one" exec n1 sh -c 'ip link add leak type bridge; mount -t tmpfs leak /mnt
  (sleep 77 >&- 2>&- &)'
leaks=$(lab "$one" snapshot --diff "$work/snapshot" || true)
for leak in 'n1.links: + leak' 'n1.mounts: + /mnt tmpfs' 'n1.processes: + sleep: sleep 77'; do
  [[ $leaks == *"$leak"* ]] || fail "snapshot does not show '$leak': $leaks"
done
mountpoint -q /mnt && fail "a node's mount shows on the machine"

step "daemons: crash, restart, stop"
lab "$two" daemon n1 kill
[[ $(lab "$two" status | awk '$1 == "n1" {print $4}') == down ]] || fail "daemon kill"
expect_fail "runs already" lab "$two" daemon n2 start
lab "$two" daemon all restart
[[ $(lab "$two" status | grep -c ' up ') -eq 4 ]] || fail "daemon restart"
lab "$two" daemon n2 stop
[[ $(lab "$two" logs n2 | grep -c 'fake lifeboatd --config /run/lifeboat/lifeboat.yaml --node n2') \
  -eq 2 ]] || fail "log of n2: $(lab "$two" logs n2)"

step "power cut and boot"
lab "$two" exec n1 touch /var/lib/lifeboat/kept /run/lost
lab "$two" exec n2 /usr/bin/python3 -c '
import socket
server = socket.create_server(("n2", 5555))
print("listens", flush=True)
peer, _ = server.accept()
print("connected", flush=True)
peer.settimeout(1.5)
try: print("heard", peer.recv(1))
except TimeoutError: print("silence")' >"$work/peer" &
peer=$!
said() { for _ in {1..1000}; do grep -qs "$1" "$work/peer" && return; sleep 0.05; done; fail "$1"; }
said listens
lab "$two" exec n1 /usr/bin/python3 -c '
import socket, time
peer = socket.create_connection(("n2", 5555))
time.sleep(100)' &
said connected
lab "$two" kill n1
wait "$peer"
said silence  # a dead machine sends no FIN
[[ $(lab "$two" status | awk '$1 == "n1" {print $3}') == off ]] || fail "kill: n1 is not off"
expect_fail "powered off" lab "$two" exec n1 true
lab "$two" boot n1
[[ $(lab "$two" exec n1 ls /var/lib/lifeboat /run) == *kept* ]] || fail "boot: state is gone"
[[ $(lab "$two" exec n1 ls /run) != *lost* ]] || fail "boot: /run has survived"
lab "$two" measure --seconds 0.2 n1 n2 >/dev/null

step "down after killed inits; the other lab is untouched"
lab "$one" exec n2 sh -c '(setsid sleep 1000 >&- 2>&- &)'
kill -9 "$(lab "$one" status --json | sed -n 's/.*"switch": \([0-9]*\).*/\1/p')"
kill -9 "$(lab "$one" status | awk '$1 == "n2" {print $3}')"
lab "$one" down
[[ $(lab "$two" status | awk '$1 == "n3" {print $4}') == up ]] || fail "the other lab was hit"

step "down without lab.json: found by the mark in the inits' command lines"
rm "$LIFEBOAT_LAB_DIR/$two/lab.json"
expect_fail "remove what is left" lab "$two" status
lab "$two" down
nothing_left "down"

step "up that fails takes itself down and shows the daemon's log"
FAKE=fails expect_fail "cannot do it" lab "$one" "${up[@]}"
nothing_left "failed up"
sed 's/, burst: 4mb/, burst: 4mb, mtu: 65535/; s/10Gbit/9999999999999Gbit/' \
  "$here/configs/lab.yaml" >"$work/bad.yaml"
expect_fail "tc in the switch failed" lab "$one" up --no-daemon --file "$work/bad.yaml"
nothing_left "up with a bad rate"

for signal in TERM INT KILL; do
  step "up interrupted by SIG$signal"
  FAKE=hangs setsid "$here/scripts/lab" --name "$one" "${up[@]}" 2>"$work/err" &
  pid=$!
  for _ in {1..1000}; do
    [[ -s $LIFEBOAT_LAB_DIR/$one/n3/lifeboatd.log ]] && break
    sleep 0.05
  done
  kill -s "$signal" "$pid"
  wait "$pid" 2>/dev/null && fail "interrupted up succeeded"
  if [[ $signal == KILL ]]; then
    expect_fail "exists" lab "$one" up --no-daemon
    lab "$one" down
  else
    grep -q "interrupted by SIG$signal" "$work/err" || fail "no message: $(cat "$work/err")"
  fi
  nothing_left "up interrupted by SIG$signal"
done

step "down refuses to delete through a mount"
lab "$one" up --no-daemon
mount -t tmpfs guard "$LIFEBOAT_LAB_DIR/$one/n1"
touch "$LIFEBOAT_LAB_DIR/$one/n1/precious"
expect_fail "there are mounts in it" lab "$one" down
[[ -e $LIFEBOAT_LAB_DIR/$one/n1/precious ]] || fail "deleted through a mount"
umount "$LIFEBOAT_LAB_DIR/$one/n1"
lab "$one" down
nothing_left "down after a refusal"

step "up and down five times, one command replacing the other"
for _ in 1 2 3 4 5; do lab "$one" up --no-daemon --replace >/dev/null; done
lab "$one" down
nothing_left "five times"

step "mistakes in lab.yaml are told with file and line"
sed 's/slots: 8/slot: 8/' "$here/configs/lab.yaml" >"$work/bad.yaml"
line=$(grep -n 'slot: 8' "$work/bad.yaml" | head -n 1 | cut -d: -f1)
expect_fail "bad.yaml:$line: slot: unknown key; did you mean 'slots'?" \
  lab "$one" up --no-daemon --file "$work/bad.yaml"
nothing_left "a bad file"
echo PASSED
