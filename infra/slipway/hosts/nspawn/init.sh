#!/bin/sh
# PID 1 of a lab host until it becomes systemd: what nspawn leaves read-only or out.
mount -o remount,rw /sys/fs/cgroup
for controller in /sys/fs/cgroup/*; do
  # cgroup v1 mounts one filesystem per controller; runc and kubelet write to each
  if mountpoint -q "$controller"; then mount -o remount,bind,rw "$controller"; fi
done
# The kernel's settings are this machine's; those of the network are the host's own.
mount --bind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
# A kubelet insists on these, and Docker raises two: in a host they are files, which it may write.
for setting in kernel/keys/root_maxbytes kernel/keys/root_maxkeys kernel/panic kernel/panic_on_oops \
  vm/overcommit_memory vm/panic_on_oom; do
  mkdir -p "/run/slipway/sys/${setting%/*}"
  cat "/proc/sys/$setting" >"/run/slipway/sys/$setting"
  mount --bind "/run/slipway/sys/$setting" "/proc/sys/$setting"
done
mount --make-rshared / # kubelet and containerd propagate mounts into pods
for number in 0 1 2 3 4 5 6 7; do
  [ -e "/dev/loop$number" ] || mknod -m 660 "/dev/loop$number" b 7 "$number"
done
# modprobe NAME succeeds for what the machine's kernel has
if [ -e "/lib/modules/$(uname -r)/modules.builtin" ] && [ ! -e "/lib/modules/$(uname -r)/modules.dep.bin" ]; then
  depmod "$(uname -r)"
fi
exec /lib/systemd/systemd "$@"
