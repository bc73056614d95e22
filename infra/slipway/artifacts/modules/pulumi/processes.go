package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// how long a process may take to end when it is asked to
const patience = 5 * time.Second

// during is ctx, ended early when this host ends. The second value gives up what it holds.
func (h *host) during(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	detach := context.AfterFunc(h.alive, cancel)
	return ctx, func() {
		detach()
		cancel()
	}
}

// run runs a command that was made with ctx, and sees to it that nothing of it outlives ctx or this process.
//
// The command gets a process group of its own: an engine that is interrupted interrupts this host's group,
// and Python would print hundreds of lines of where it was over what the engine says. It is asked by SIGTERM
// instead; after a while it is killed, with all it started. When this process itself is killed, the kernel
// kills the command.
func run(ctx context.Context, command *exec.Cmd) error {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	command.Cancel = func() error { return signalGroup(command, syscall.SIGTERM) }
	command.WaitDelay = patience
	// the kernel's watch is on the thread that started the command, not on the process
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := command.Start(); err != nil {
		return err
	}
	err := command.Wait()
	if ctx.Err() != nil {
		_ = signalGroup(command, syscall.SIGKILL) // what it started may not have heard
	}
	return err
}

func signalGroup(command *exec.Cmd, signal syscall.Signal) error {
	err := syscall.Kill(-command.Process.Pid, signal)
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// exit is how a command ended: its exit code, 128 and the signal's number if one ended it, and words for
// anything but 0. Third: the error if it did not run at all.
func exit(err error) (int, string, error) {
	var ended *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // the second: something it started still writes
		return 0, "", nil
	case !errors.As(err, &ended):
		return 0, "", err
	}
	status, ok := ended.Sys().(syscall.WaitStatus)
	switch {
	case ok && status.Signaled() && status.Signal() == syscall.SIGKILL:
		return 128 + int(status.Signal()), "was killed (by hand, or by the system for want of memory)", nil
	case ok && status.Signaled():
		return 128 + int(status.Signal()), fmt.Sprintf("was ended by a signal: %v", status.Signal()), nil
	default:
		return ended.ExitCode(), fmt.Sprintf("ended with exit code %d", ended.ExitCode()), nil
	}
}
