#!/usr/bin/env bash
# Whether the models that the presets use are the right ones and work, on photographs of known content (docs/verify.md):
#   bash verify_models.sh                        downloads what the presets of this machine use
#   bash verify_models.sh --presets embedded     what needs no download
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # as `sh verify_models.sh`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. tools/setup_venv.sh requirements-embedded.lock
exec "$PYTHON" -m tools.verify_models "$@"
