#!/usr/bin/env bash
# What a checkout needs on this machine before slipway can take over: Python and a venv from the hashed
# lock, with the four products in it. Says what it does, does nothing when nothing is to do.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} venv=${VENV:-.venv}

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { printf 'error: %s\n  what to do: %s\n' "$1" "$2" >&2; exit 3; }

# Only what Python itself needs: everything else slipway has a list of, see the end.
missing=()
command -v "$python" >/dev/null 2>&1 || missing+=(python3)
if command -v "$python" >/dev/null 2>&1; then
    "$python" -c 'import ensurepip' 2>/dev/null || command -v uv >/dev/null 2>&1 || missing+=(python3-venv)
fi
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 ||
        stop "these packages are missing: ${missing[*]}" "install them, or run this once as root on Debian or Ubuntu"
    say "installing ${missing[*]} with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null || say "apt-get update failed, trying with the lists there are"
    apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "$("$python" --version) is too old, slipway needs 3.11 or newer" "install a newer one and name it: make PYTHON=python3.12 ..."

# The stamps hold what was installed from, so a changed lock, another interpreter or a moved checkout
# sets up again, and nothing else does.
want=$("$python" --version; sha256sum <requirements.lock; pwd)
if [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/.locked" 2>/dev/null)" != "$want" ]; then
    say "making $venv from requirements.lock (3 GB, a minute or two)"
    rm -rf "$venv"
    if command -v uv >/dev/null 2>&1; then
        uv venv -q --python "$python" "$venv"
        uv pip install -q --python "$venv/bin/python" --no-deps --require-hashes -r requirements.lock
    else
        "$python" -m venv "$venv"
        "$venv/bin/pip" install -q --no-compile --no-deps --require-hashes -r requirements.lock
    fi
    # compiled once: TensorFlow and Ansible start in a third of the time, and they are started often. The clouds' SDKs
    # are 9,000 modules, of which a stack loads a few dozen; files for Pythons to come do not compile.
    env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -q -j 0 \
        -x '/pulumi_(aws|azure_native|gcp|hcloud|openstack)/' "$venv"/lib/python3*/site-packages >/dev/null || true
    printf '%s\n' "$want" > "$venv/.locked"
fi
# Without isolation: the build backend is the lock's own, so nothing is fetched that has no hash.
products=(--editable . --editable infra/slipway_client --editable infra/slipway_server --editable stacks)
want=$(cat pyproject.toml infra/slipway_client/pyproject.toml infra/slipway_server/pyproject.toml stacks/pyproject.toml | sha256sum)
if [ ! -x "$venv/bin/slipway" ] || [ "$(cat "$venv/.installed" 2>/dev/null)" != "$want" ]; then
    if command -v uv >/dev/null 2>&1; then
        uv pip install -q --python "$venv/bin/python" --no-deps --no-build-isolation "${products[@]}"
    else
        "$venv/bin/pip" install -q --no-deps --no-build-isolation "${products[@]}"
    fi
    # the packages of this machine that hosts and images are made with; `up` would install them too
    if [ "$(id -u)" = 0 ] && [ "$(uname -s)" = Linux ] && command -v apt-get >/dev/null 2>&1; then
        "$venv/bin/slipway" setup >&2
    fi
    printf '%s\n' "$want" > "$venv/.installed"
    say "done"
fi
