#!/usr/bin/env bash
# The gate: sets up .venv, then lint, format, types and the tests, in a few minutes.
#   bash run_tests.sh                      what CI runs
#   bash run_tests.sh --all                all tests, before a release: half an hour more
#   bash run_tests.sh -m "not slow"        arguments go to pytest, which then runs alone
#   bash run_tests.sh --all -k machines -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. tools/setup_venv.sh requirements.lock
chosen="not release" # as in pyproject.toml
if [ "${1:-}" = --all ]; then
    chosen=
    shift
fi
if [ $# -gt 0 ]; then
    exec "$PYTHON" -m pytest -m "$chosen" "$@" # a later -m replaces this one
fi
failed=0
"$PYTHON" -m ruff check . || failed=1
"$PYTHON" -m ruff format --check . || failed=1
[ "$failed" = 0 ] || exit 1
# The type checker is mypy because it comes from PyPI like everything else; pyright needs node. It runs beside the first tests, and what it says is
# printed after them.
types=$(mktemp)
trap 'rm -f "$types"' EXIT
"$PYTHON" -m mypy >"$types" 2>&1 &
checker=$!
# A browser for the tests of the report, which are skipped without one.
if ! command -v chromium google-chrome >/dev/null; then
    echo "installing Chromium, which opens the report in tests"
    (apt-get update && apt-get install -y --no-install-recommends chromium) >/dev/null 2>&1 || echo "Chromium cannot be installed here: the report is not opened in a browser" >&2
fi
# Three workers for two cores: a third of the time tests wait, for processes that start, servers and time limits. Not more than the memory of a
# large machine holds. A file's tests share what its fixtures made, and so stay together; the longest files come first (tests/conftest.py).
workers=$("$PYTHON" -c 'import os; print(min(8, os.cpu_count() * 3 // 2))')
"$PYTHON" -m pytest -m "$chosen" -n "$workers" --dist loadfile --no-loadscope-reorder || failed=1
wait "$checker" || failed=1
cat "$types"
exit "$failed"
