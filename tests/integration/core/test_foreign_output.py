"""Whatever a library writes, the terminal carries slipway's own lines only, and the log has the library's."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

OWN = "  slipway's own line\n"
BEFORE_AND_AFTER = """\
import logging, os, socket, sys, threading, warnings
from pathlib import Path
from slipway.core.console import Console
from slipway.core.events import Detail, Note

console = Console()
with console.recording(Path(sys.argv[1])) as out:
{act}
    console(Note("slipway's own line"))
    out.write("a document\\n")
"""
# Each real one: how a library is brought to say something of its own, and a word of it
SAID = {
    "gRPC's C++ on a handshake that fails": (
        """
        os.environ.pop("GRPC_VERBOSITY", None)  # slipway's own clients silence it
        import grpc
        server = socket.create_server(("127.0.0.1", 0))
        def answer():
            while True:
                taken, _ = server.accept()
                taken.recv(1 << 16)  # or what is unread makes the close a reset, which takes the answer along
                taken.sendall(b"not TLS at all\\r\\n")
                taken.close()
        threading.Thread(target=answer, daemon=True).start()
        channel = grpc.secure_channel(f"127.0.0.1:{server.getsockname()[1]}", grpc.ssl_channel_credentials())
        try:
            channel.unary_unary("/a/b")(b"", timeout=10)
        except grpc.RpcError:
            pass
        channel.close()
        """,
        "ssl_transport_security",
    ),
    "Pulumi's log without an engine": ("import pulumi; pulumi.log.warn('pulumi speaks')", "pulumi speaks"),
    "Ansible's warnings": (
        "from ansible.utils.display import Display; Display().warning('ansible speaks')",
        "ansible speaks",
    ),
    "asyncio on a task that nobody waits for": (
        """
        import asyncio, gc
        async def fails():
            raise OSError("the engine is gone")
        async def begun():
            asyncio.create_task(fails())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        asyncio.run(begun())
        gc.collect()
        """,
        "Task exception was never retrieved",
    ),
    "TensorFlow's C++ as it is imported": (
        "os.environ.pop('TF_CPP_MIN_LOG_LEVEL', None); import tensorflow",
        "absl::InitializeLog()",
    ),
    "a thread that dies": (
        "one = threading.Thread(target=lambda: 1 / 0); one.start(); one.join()",
        "ZeroDivisionError",
    ),
    "a warning": ("warnings.warn('old')", "UserWarning: old"),
    "a logger nobody set up": ("logging.getLogger('foreign').error('it speaks')", "it speaks"),
    "a line without an end": ("sys.stdout.write('print'); sys.stderr.write('ed')", "print"),
    "a program that inherits both": ("os.system('echo from a child; echo and more >&2')", "from a child"),
    "words that steer a terminal": ("os.write(2, b'\\x1b[2J cleared\\n')", "?[2J cleared"),
}


@pytest.mark.parametrize("name", SAID)
def test_a_librarys_words_go_to_the_log(name: str, tmp_path: Path) -> None:
    act, word = SAID[name]
    script = BEFORE_AND_AFTER.format(act=textwrap.indent(textwrap.dedent(act).strip(), "    "))
    argv = [sys.executable, "-c", script, str(tmp_path / "slipway.log")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    log = (tmp_path / "slipway.log").read_text()
    assert word in log
    assert done.stderr == OWN
    assert done.stdout == "a document\n"
    assert done.returncode == 0


def test_both_streams_are_as_before_afterwards(tmp_path: Path) -> None:
    script = BEFORE_AND_AFTER.format(act="    print('inside')")
    script += "print('after', flush=True); console(Note('own again')); os.write(2, b'raw\\n')\n"
    argv = [sys.executable, "-c", script, str(tmp_path / "slipway.log")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout == "a document\nafter\n"
    assert done.stderr == f"{OWN}  own again\nraw\n"


def test_with_v_they_are_told_among_the_details(tmp_path: Path) -> None:
    script = BEFORE_AND_AFTER.format(act="    os.write(2, b'library\\n')")
    script = script.replace("Console()", "Console(verbose=True)")
    argv = [sys.executable, "-c", script, str(tmp_path / "slipway.log")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert sorted(done.stderr.splitlines()) == sorted([OWN.rstrip("\n"), "    library"])
