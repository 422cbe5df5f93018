# Sourced by quickstart.sh and run_tests.sh in the project root: creates .venv from requirements.lock, or updates it when the lock has changed,
# and sets PYTHON. uv installs, not pip: it is faster, and it takes torch and torchvision from the same index.
if ! cmp -s requirements.lock .venv/requirements.lock; then
    for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10; do
        "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>&- && break
        python=
    done
    if [ -z "$python" ]; then
        echo "Reelset needs Python 3.10 to 3.13; set PYTHON=/path/to/one" >&2
        exit 1
    fi
    echo "setting up .venv with $("$python" --version) (once; several gigabytes, mostly PyTorch)"
    if ! "$python" -m venv .venv; then
        echo "$python cannot create a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
    .venv/bin/python -m uv pip install --quiet --system-certs --python .venv/bin/python -r requirements.lock
    cp requirements.lock .venv/requirements.lock
fi
PYTHON=$PWD/.venv/bin/python
