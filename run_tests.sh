#!/usr/bin/env bash
# The gate: sets up .venv, then lint, format, types and all tests.
#   bash run_tests.sh                      what CI runs
#   bash run_tests.sh -m "not slow"        arguments go to pytest, which then runs alone
#   bash run_tests.sh -k cutting -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. tools/setup_venv.sh
if [ $# -eq 0 ]; then
    # All three report before the gate stops. The type checker is mypy because it comes from PyPI like everything else; pyright needs node.
    failed=0
    "$PYTHON" -m ruff check . || failed=1
    "$PYTHON" -m ruff format --check . || failed=1
    "$PYTHON" -m mypy || failed=1
    [ "$failed" = 0 ] || exit 1
    # A browser for the tests of the report, which are skipped without one.
    if ! command -v chromium google-chrome >/dev/null; then
        echo "installing Chromium, which opens the report in tests"
        (apt-get update && apt-get install -y --no-install-recommends chromium) >/dev/null 2>&1 || echo "Chromium cannot be installed here: the report is not opened in a browser" >&2
    fi
    # Two processes, because tests wait a lot for the scripts that they start; --dist loadscope keeps a file's tests, which share fixtures, together.
    set -- -n 2 --dist loadscope
fi
exec "$PYTHON" -m pytest "$@"
