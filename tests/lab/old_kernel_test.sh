#!/usr/bin/env bash
#
# Runs the tests of dirty tracking on a kernel that has soft-dirty bits and no PAGEMAP_SCAN: Debian 12's
# own (6.1), in an emulated machine, without KVM.
#
#   tests/lab/old_kernel_test.sh [GTEST_FILTER]
#
# Takes minutes, so scripts/test does not run it. Needs qemu (apt-get install --no-install-recommends
# qemu-system-x86: 84 MB installed), and the build configured. It fetches the kernel's package (26 MB) once,
# into $LIFEBOAT_CACHE/old-kernel, and installs nothing. LIFEBOAT_STRESS_S: seconds of the stress test
# (default 20: an emulated machine is slow). Exit status 77 when something is missing.
#
set -euo pipefail
export LC_ALL=C

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${LIFEBOAT_CACHE:-$HOME/.cache/lifeboat}/old-kernel
tests=$REPO/build/dev/bin/tracker_tests
filter=${1:-*}

skip() { echo "SKIP: $*"; exit 77; }

command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64 (package qemu-system-x86)"
[[ -d $REPO/build/dev ]] || skip "not configured: cmake --preset dev"
(cd "$REPO" && cmake --build --preset dev --target tracker_tests) >&2

mkdir -p "$cache"
kernel=$(find "$cache" -name 'vmlinuz-6.1.*' | sort | tail -n 1)
if [[ -z $kernel ]]; then
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/.*Depends: \(linux-image-6\.1\..*\)/\1/p' | head -n 1)
  [[ -n $package ]] || skip "apt knows no kernel 6.1 (linux-image-cloud-amd64)"
  (cd "$cache" && apt-get -qq download "$package" >&2) || skip "cannot fetch $package"
  dpkg-deb --fsys-tarfile "$cache/$package"_*.deb | tar -x -C "$cache" --wildcards './boot/vmlinuz-*'
  rm -f "$cache/$package"_*.deb
  kernel=$(find "$cache" -name 'vmlinuz-6.1.*' | sort | tail -n 1)
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The test is the only program there: /init, with the libraries that it needs.
strip -o "$work/init" "$tests"
python3 - "$work/init" >"$work/initramfs" <<'END'
# An archive as of `cpio -H newc`: (name, mode, device, contents).
import os, re, subprocess, sys
libraries = re.findall(r"(/\S+) \(0x", subprocess.run(["ldd", sys.argv[1]], check=True, capture_output=True,
                                                     text=True).stdout)
directories = {"proc", "sys", "dev", "tmp"}
for library in libraries:
    parts = library.strip("/").split("/")[:-1]
    directories.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))
entries = [(name, 0o040755, (0, 0), b"") for name in sorted(directories)]
entries += [(library.strip("/"), 0o100755, (0, 0), open(os.path.realpath(library), "rb").read())
            for library in libraries]
entries += [("dev/console", 0o020600, (5, 1), b""),
            ("init", 0o100755, (0, 0), open(sys.argv[1], "rb").read()),
            ("TRAILER!!!", 0, (0, 0), b"")]
for number, (name, mode, device, contents) in enumerate(entries):
    fields = [number, mode, 0, 0, 1, 0, len(contents), 0, 0, *device, len(name) + 1, 0]
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    for part in (header, contents):
        sys.stdout.buffer.write(part + b"\0" * (-len(part) % 4))
END

timeout --kill-after=5 600 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 \
  -nographic -no-reboot -nodefaults -serial stdio -monitor none \
  -kernel "$kernel" -initrd "$work/initramfs" \
  -append "console=ttyS0 quiet panic=-1 mitigations=off LIFEBOAT_STRESS_S=${LIFEBOAT_STRESS_S:-20} GTEST_FILTER=$filter GTEST_COLOR=no" \
  </dev/null | tr -d '\r' | tee "$work/log" | grep --line-buffered -aE '^(\[|   |Linux|[^ ]*:[0-9]+: )' || true

number() { { grep -aE "$1" "$work/log" || true; } | tail -n 1 | grep -oE '[0-9]+' | head -n 1 || true; }
good=$(number '^\[  PASSED  \] [0-9]+ test')
bad=$(number '^\[  FAILED  \] [0-9]+ test')
none=$(number '^\[  SKIPPED \] [0-9]+ test')
if ! grep -aq '^tests ended with' "$work/log"; then
  tail -n 20 "$work/log"
  bad=$((${bad:-0} + 1))
fi
echo "${good:-0} passed, ${bad:-0} failed, ${none:-0} skipped"
((${bad:-0} == 0))
