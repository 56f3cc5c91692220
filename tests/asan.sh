#!/bin/sh
# The kernel's tests with the extension built under AddressSanitizer, in a temporary copy: a read or write beyond a
# buffer ends the run. Usage: tests/asan.sh [pytest arguments]; PYTHON names the interpreter (default .venv/bin/python).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$root" && realpath -s "${PYTHON:-.venv/bin/python}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
cp -r "$root/protocol" "$root/tests" "$root/pyproject.toml" "$root/setup.py" "$work/root/"
rm -f "$work"/root/protocol/_kernel.c "$work"/root/protocol/*.so
if [ -d "$root/../shared/data" ]; then mkdir "$work/shared" && ln -s "$(realpath "$root/../shared/data")" "$work/shared/data"; fi
cd "$work/root"
sed -i "s/-O3/-O1/" setup.py  # half the time to build, and truer line numbers
[ -e README.md ] || echo buck > README.md
CFLAGS="-fsanitize=address -fno-omit-frame-pointer -g" LDFLAGS="-fsanitize=address" \
    "$python" setup.py -q build_ext --inplace --force > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
grep -q __asan_init protocol/_kernel*.so
# Python itself leaks at exit and allocates in pools: malloc shows it each object, and leaks are not looked for.
LD_PRELOAD=$("${CC:-gcc}" -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
    PYTHONMALLOC=malloc PYTHONDONTWRITEBYTECODE=1 \
    "$python" -m pytest -q -p no:cacheprovider -o faulthandler_timeout=0 tests/protocol/test_kernel_*.py "$@"
echo "asan: clean"
