#!/bin/sh
# enter.sh FOLDER ROOT COMMAND... - lay a host's overlay over the cached root, then become COMMAND.
# Started in a mount namespace of its own: the mounts end with the host, however it ends.
# Relative names, because the options of an overlay mount cannot hold every path.
set -e
folder=$1 root=$2
shift 2
cd "$folder"
mkdir -p lower work root
mount --bind "$root" lower
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root
exec "$@"
