#!/bin/sh
# stores.sh COMMAND... - what enter.sh becomes: the engines' stores as the root's own file system has them, then COMMAND.
# An overlay would hide from a reader what is a whiteout in one of their layers. COMMAND finds the whole as ./root.
set -e
for store in containerd docker; do
  if [ -d "lower/var/lib/$store" ]; then
    mount --bind "lower/var/lib/$store" "root/var/lib/$store"
    mount -o remount,bind,ro "root/var/lib/$store"
  fi
done
exec "$@"
