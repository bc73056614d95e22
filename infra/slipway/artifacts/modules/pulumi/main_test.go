package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	asHost  = "TEST_AS_LANGUAGE_HOST" // set: this test program is the host
	limit   = 20 * time.Second        // for what happens at once
	forLong = "import time\nprint('waits', flush=True)\ntime.sleep(600)\n"
	// in the place of the SDK's script: tells what it was given, then runs the program
	executorStandIn = `import json, os, runpy, sys
names = ("PULUMI_CONFIG", "PULUMI_CONFIG_SECRET_KEYS", "VIRTUAL_ENV")
print("given", json.dumps({"arguments": sys.argv[1:], **{name: os.environ.get(name) for name in names}}), flush=True)
os.chdir(sys.argv[sys.argv.index("--pwd") + 1])
[program] = [word for word in sys.argv if word.endswith("program.py")]
runpy.run_path(program, run_name="__main__")
`
)

func TestMain(m *testing.M) {
	if os.Getenv(asHost) != "" {
		engineCheck = 50 * time.Millisecond
		main()
		return
	}
	os.Exit(m.Run())
}

// An engine is something that listens; that it knows nothing of health is as good as healthy.
func engine(t *testing.T) (string, *grpc.Server) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server := grpc.NewServer()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String(), server
}

// started is a host and what it printed after its port.
type started struct {
	pulumirpc.LanguageRuntimeClient
	process  *exec.Cmd
	in       io.Closer
	out, err *text
	ended    chan error
}

// install puts the host under this name into a folder of its own, with a stand-in for the SDK's script.
func install(t *testing.T, name string) string {
	t.Helper()
	folder := t.TempDir()
	program := filepath.Join(folder, name)
	own, err := os.Executable()
	check(t, err)
	if os.Link(own, program) != nil { // another file system
		bytes, err := os.ReadFile(own)
		check(t, err)
		check(t, os.WriteFile(program, bytes, 0o755))
	}
	write(t, filepath.Join(folder, executor), executorStandIn)
	return program
}

func start(t *testing.T, address string, variables ...string) *started {
	t.Helper()
	s := launch(t, install(t, "pulumi-language-python"), address, variables...)
	port := s.out.line(t)
	_, err := strconv.Atoi(port)
	check(t, err)
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s.LanguageRuntimeClient = pulumirpc.NewLanguageRuntimeClient(conn)
	return s
}

func launch(t *testing.T, program, address string, variables ...string) *started {
	t.Helper()
	return launchIn(t, "", program, address, variables...)
}

func launchIn(t *testing.T, folder, program, address string, variables ...string) *started {
	t.Helper()
	s := &started{process: exec.Command(program, address), out: &text{}, err: &text{}, ended: make(chan error, 1)}
	s.process.Env = append(os.Environ(), append(variables, asHost+"=1")...)
	s.process.Stdout, s.process.Stderr = s.out, s.err
	s.process.WaitDelay = limit
	s.process.Dir = folder
	in, err := s.process.StdinPipe()
	check(t, err)
	s.in = in
	check(t, s.process.Start())
	gone := make(chan struct{})
	go func() { s.ended <- s.process.Wait(); close(gone) }()
	t.Cleanup(func() { _ = s.process.Process.Kill(); <-gone })
	return s
}

// ends waits for the host's own end, and says how it ended.
func (s *started) ends(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(limit):
		t.Fatal("the host is still there")
		return nil
	}
}

// text is what a process printed so far.
type text struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *text) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

func (b *text) all() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

func (b *text) line(t *testing.T) string {
	t.Helper()
	b.shows(t, "\n")
	return strings.SplitN(b.all(), "\n", 2)[0]
}

func (b *text) shows(t *testing.T, part string) {
	t.Helper()
	until(t, func() bool { return strings.Contains(b.all(), part) }, func() string { return "no " + part + " in: " + b.all() })
}

func until(t *testing.T, happened func() bool, otherwise func() string) {
	t.Helper()
	for end := time.Now().Add(limit); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(otherwise())
		}
	}
}

// project is a folder with a program and an environment, and what the engine says of it.
type project struct {
	folder string
	info   *pulumirpc.ProgramInfo
}

func newProject(t *testing.T, program string) project {
	t.Helper()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "program.py"), program)
	makeVenv(t, filepath.Join(folder, "venv"))
	return project{folder, &pulumirpc.ProgramInfo{
		RootDirectory: folder, ProgramDirectory: folder, EntryPoint: "program.py",
		Options: options(t, map[string]any{"virtualenv": "venv"}),
	}}
}

func (p project) request() *pulumirpc.RunRequest {
	return &pulumirpc.RunRequest{Info: p.info, Pwd: p.folder, Project: "shop", Stack: "dev", Parallel: 4}
}

func options(t *testing.T, named map[string]any) *structpb.Struct {
	t.Helper()
	made, err := structpb.NewStruct(named)
	check(t, err)
	return made
}

// packages is the folder of the project's installed packages.
func (p project) packages(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.folder, "venv/lib/python3*/site-packages"))
	check(t, err)
	if len(found) != 1 {
		t.Fatal(found)
	}
	return found[0]
}

var python = sync.OnceValue(func() []string {
	said, err := exec.Command("python3", "-c",
		"import sys; print(sys.base_exec_prefix, sys.executable, 'python%d.%d' % sys.version_info[:2], sep='\\n')").Output()
	if err != nil {
		panic(err)
	}
	return strings.Fields(string(said))
})

func makeVenv(t *testing.T, folder string) {
	t.Helper()
	of := python()
	own := filepath.Join(of[0], "bin", of[2])
	check(t, os.MkdirAll(filepath.Join(folder, "lib", of[2], "site-packages"), 0o755))
	write(t, filepath.Join(folder, "pyvenv.cfg"), "home = "+filepath.Dir(own)+"\ninclude-system-site-packages = false\n")
	check(t, os.Mkdir(filepath.Join(folder, "bin"), 0o755))
	check(t, os.Symlink(own, filepath.Join(folder, "bin/python")))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o755))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, said string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(said, "\n", 2)[0]))
	check(t, err)
	return pid
}

func contains(t *testing.T, said string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("no %q in: %s", part, said)
		}
	}
}

func in(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// alive tells whether a process runs: a zombie does not.
func alive(pid int) bool {
	said, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(said), ") Z ")
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	until(t, func() bool {
		said, err := os.ReadFile(path)
		return err == nil && json.Unmarshal(said, into) == nil
	}, func() string { return path + " was not written" })
}

func TestAPortIsToldAndTheVersion(t *testing.T) {
	address, _ := engine(t)
	s := start(t, address)
	info, err := s.GetPluginInfo(in(t), &emptypb.Empty{})
	check(t, err)
	if info.GetVersion() != "" { // the linker puts it in; a test program has none
		t.Error(info)
	}
}

func TestStartedByHandItSaysWhoStartsIt(t *testing.T) {
	command := exec.Command(install(t, "pulumi-language-python"))
	command.Env = append(os.Environ(), asHost+"=1")
	said, err := command.CombinedOutput()
	if code, _, _ := exit(err); code != 1 {
		t.Error(err)
	}
	contains(t, string(said), "pulumi-language-python: this program is started by the Pulumi engine")
}

func TestWithoutItsScriptItSaysSo(t *testing.T) {
	address, _ := engine(t)
	program := install(t, "pulumi-language-python")
	check(t, os.Remove(filepath.Join(filepath.Dir(program), executor)))
	s := launch(t, program, address)
	if code, _, _ := exit(s.ends(t)); code != 1 {
		t.Error(code)
	}
	contains(t, s.err.all(), "the script that runs programs is not beside this one", executor)
}

// The ways an engine ends: nothing of a program may stay, whatever it holds on to.
func TestNothingOutlivesTheEngine(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *started, *grpc.Server){
		"killed, so that its pipe closes":  func(t *testing.T, s *started, _ *grpc.Server) { check(t, s.in.Close()) },
		"gone, with its pipe held by else": func(_ *testing.T, _ *started, engine *grpc.Server) { engine.Stop() },
		"interrupts its plugins": func(t *testing.T, s *started, _ *grpc.Server) {
			check(t, s.process.Process.Signal(os.Interrupt))
		},
		"terminates them": func(t *testing.T, s *started, _ *grpc.Server) {
			check(t, s.process.Process.Signal(syscall.SIGTERM))
		},
		"says that it is over": func(t *testing.T, s *started, _ *grpc.Server) {
			_, err := s.Cancel(in(t), &emptypb.Empty{})
			check(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			address, server := engine(t)
			s, pids := running(t, address)
			end(t, s, server)
			check(t, s.ends(t))
			for _, pid := range pids {
				until(t, func() bool { return !alive(pid) }, func() string { return "a process of the program is still there" })
			}
			if strings.Contains(s.err.all(), "Traceback") {
				t.Error("the program was interrupted: ", s.err.all())
			}
		})
	}
}

func TestAKilledHostTakesItsProgramAlong(t *testing.T) {
	address, _ := engine(t)
	s, pids := running(t, address)
	check(t, s.process.Process.Kill())
	until(t, func() bool { return !alive(pids[0]) }, func() string { return "the program outlives its host" })
	_ = syscall.Kill(pids[1], syscall.SIGKILL) // what a program starts is its own affair then
}

// running is a host with a program that waits, which started another that ignores SIGTERM; and their pids.
func running(t *testing.T, address string) (*started, []int) {
	t.Helper()
	p := newProject(t, `import json, os, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
child.stdout.readline()
with open("pids.new", "w") as file:
    json.dump([os.getpid(), child.pid], file)
os.rename("pids.new", "pids")
time.sleep(600)
`)
	s := start(t, address)
	// a call's end is not looked at: what counts is what is left
	go func() { _, _ = s.Run(context.Background(), p.request()) }()
	var pids []int
	read(t, filepath.Join(p.folder, "pids"), &pids)
	return s, pids
}
