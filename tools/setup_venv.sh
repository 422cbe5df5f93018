# Sourced by quickstart.sh and run_tests.sh in the project root, with the lock to install (by itself: that of the quick start): creates .venv from it,
# or updates it when the lock has changed, and sets PYTHON. .venv keeps a copy of its lock. One that has everything (requirements.lock) is never made smaller.
# uv installs, not pip: it is faster, and it takes torch and torchvision from the same index.
lock=${1:-requirements-embedded.lock}
if [ -e .venv/requirements.lock ]; then lock=requirements.lock; fi
if ! cmp -s "$lock" ".venv/$lock"; then
    for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10; do
        "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>&- && break
        python=
    done
    if [ -z "$python" ]; then
        echo "Reelset needs Python 3.10 to 3.13; set PYTHON=/path/to/one" >&2
        exit 1
    fi
    case $lock in requirements.lock) size="several gigabytes, mostly PyTorch" ;; *) size="335 MB to download" ;; esac
    echo "setting up .venv with $("$python" --version) (once; $size)"
    pip_uv="install --quiet --disable-pip-version-check uv"
    if ! .venv/bin/python -m uv --version >/dev/null 2>&1 &&
        ! { "$python" -m venv --without-pip .venv && "$python" -m pip --python .venv/bin/python $pip_uv; } >/dev/null 2>&1; then
        # Where $python has no pip, or an old one, .venv gets one of its own, which takes three seconds more.
        if ! "$python" -m venv .venv; then
            echo "$python cannot create a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 1
        fi
        .venv/bin/python -m pip $pip_uv || exit 1
    fi
    # A lock is complete; what packages of the smaller one ask for beyond it is not used (requirements-embedded-without.txt).
    .venv/bin/python -m uv pip install --quiet --system-certs --no-deps --python .venv/bin/python -r "$lock" || exit 1
    cp "$lock" .venv/
fi
PYTHON=$PWD/.venv/bin/python
