#!/bin/sh
# supervise.sh LOG PIDFILE CGROUP... -- COMMAND... - keep one host running where systemd is not PID 1.
# Joins the host's own cgroup of every hierarchy, then runs COMMAND again as long as the guest reboots.
# One function, so that it is read whole before it runs: an update may replace this file meanwhile.
supervise() {
  log=$1 pidfile=$2
  shift 2
  exec </dev/null >>"$log" 2>&1
  cd / || exit 71
  while [ "$1" != -- ]; do
    echo $$ >"$1/cgroup.procs" || exit 71
    shift
  done
  shift
  # `up` makes this file before it starts us, `down` removes it before it looks into the cgroups
  [ -e "$pidfile" ] || exit 0
  awk '{ print $1, $22 }' /proc/$$/stat >"$pidfile"
  child=
  trap '[ -z "$child" ] || kill "$child"' TERM
  while :; do
    "$@" &
    child=$!
    wait "$child"
    code=$?
    # a trapped signal ends wait early: the guest is still on its way down
    while kill -0 "$child" 2>/dev/null; do
      wait "$child"
      code=$?
    done
    [ "$code" = 133 ] || exit "$code" # 133: the guest asked for a reboot
    echo "== reboot"
  done
}
supervise "$@"
exit
