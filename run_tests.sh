#!/usr/bin/env bash
# Set up .venv and run the tests; arguments go to pytest: bash run_tests.sh -k cutting -x
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. utils/setup_venv.sh
exec "$PYTHON" -m pytest "$@"
