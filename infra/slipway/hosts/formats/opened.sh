#!/bin/sh
# opened.sh FOLDER ROOT COMMAND... - lay FOLDER's changes over a golden root, then become COMMAND.
# As for a host, but the engines' stores lie on the root's own file system: an overlay would hide from a
# reader what is a whiteout in one of their layers. COMMAND finds the whole as ./root.
# Started in a mount namespace of its own, with which all mounts end.
set -e
folder=$1 root=$2
shift 2
cd "$folder"
mkdir -p lower work root
mount --bind "$root" lower
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root
for store in containerd docker; do
  if [ -d "lower/var/lib/$store" ]; then
    mount --bind "lower/var/lib/$store" "root/var/lib/$store"
    mount -o remount,bind,ro "root/var/lib/$store"
  fi
done
exec "$@"
