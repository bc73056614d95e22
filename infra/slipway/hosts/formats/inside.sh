#!/bin/sh
# inside.sh COMMAND... - become COMMAND inside ./root, with what programs expect there. After stores.sh.
# What lies in ./site is there as /run/site; esp/ is what the disk's boot partition will hold.
set -e
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mount -t tmpfs -o mode=0755 tmpfs root/run
mkdir root/run/site
mount --bind site root/run/site
if [ -e site/resolv.conf ]; then
  touch root/etc/resolv.conf
  mount --bind site/resolv.conf root/etc/resolv.conf
fi
if [ -d esp ]; then
  mkdir -p root/boot/efi
  mount --bind esp root/boot/efi
fi
exec chroot root "$@"
