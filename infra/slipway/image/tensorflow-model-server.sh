#!/bin/sh
# Put tensorflow_model_server of Google's apt repository into a folder: the package is checked by apt
# against a signing key that must have the pinned fingerprint and must not have expired.
# usage: tensorflow-model-server.sh FOLDER [KEYFILE]
set -eu
into=$1
version=2.21.0 # of the TensorFlow that exports the model; the repository drops old ones, then raise it here
fingerprint=916E2B2FEBC274930BACA9D9544B7F63BF9E4D5F
repository=https://storage.googleapis.com/tensorflow-serving-apt
fail() {
    echo "$1" >&2
    exit 1
}

if [ $# -lt 2 ]; then
    [ "$(dpkg --print-architecture)" = amd64 ] ||
        fail "TensorFlow Serving's repository has packages for amd64 only; use image.server: portable"
    timeout="-o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Acquire::Retries=2"
    # shellcheck disable=SC2086 # the options are words
    apt-get $timeout update
    # shellcheck disable=SC2086
    apt-get $timeout install -y --no-install-recommends ca-certificates curl gpg
    key=$(mktemp)
    curl -fsSL --proto =https --max-time 60 -o "$key" "$repository/tensorflow-serving.release.pub.gpg"
else
    key=$2
fi

home=$(mktemp -d)
listing=$(gpg --homedir "$home" --batch --with-colons --show-keys "$key") ||
    fail "the signing key of TensorFlow Serving's repository cannot be read"
[ "$(echo "$listing" | grep -c '^pub:')" = 1 ] ||
    fail "the signing key's file holds another number of keys than one"
found=$(echo "$listing" | awk -F: '$1 == "fpr" { print $10; exit }')
[ "$found" = "$fingerprint" ] ||
    fail "the signing key of TensorFlow Serving's repository is $found, not the pinned $fingerprint"
expires=$(echo "$listing" | awk -F: '$1 == "pub" { print $7; exit }')
now=$(date +%s)
if [ -n "$expires" ]; then
    when=$(date -u -d "@$expires" +%Y-%m-%d)
    [ "$expires" -gt "$now" ] ||
        fail "the signing key of TensorFlow Serving's repository expired on $when; it is renewed by Google,
late nearly every year: wait for it (tensorflow/serving issue 4150) or use image.server: portable"
    [ "$expires" -gt $((now + 30 * 86400)) ] ||
        echo "warning: the signing key of TensorFlow Serving's repository expires on $when" >&2
fi
[ $# -lt 2 ] || exit 0 # only the key was to be checked

gpg --homedir "$home" --batch --dearmor <"$key" >/usr/share/keyrings/tensorflow-serving.gpg
cat >/etc/apt/sources.list.d/tensorflow-serving.sources <<SOURCES
Types: deb
URIs: $repository
Suites: stable
Components: tensorflow-model-server
Architectures: amd64
Signed-By: /usr/share/keyrings/tensorflow-serving.gpg
SOURCES
# shellcheck disable=SC2086
apt-get $timeout update
cd "$(mktemp -d)"
# shellcheck disable=SC2086
apt-get $timeout download "tensorflow-model-server=$version" ||
    fail "TensorFlow Serving's repository has no tensorflow-model-server $version;
it has: $(apt-cache madison tensorflow-model-server | awk '{ print $3 }' | tr '\n' ' ')"
mkdir -p "$into"
dpkg-deb -x ./*.deb "$into"
