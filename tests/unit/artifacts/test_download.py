"""Downloads against a stand-in server: nothing unchecked is ever put in place."""

from __future__ import annotations

import hashlib
import http.server
import urllib.request
import zipfile
from pathlib import Path

import pytest
from slipway.artifacts import cache, download
from slipway.artifacts.pins import Row
from slipway.core.errors import ArtifactError
from slipway.core.events import ProgressAdvanced, ProgressFinished, ProgressStarted

CONTENT = bytes(range(256)) * 8192  # 2 MiB, several reads


def row(stand_in, *, content: bytes = CONTENT, path: str = "/tool", sized: bool = True) -> Row:
    return Row(
        "tool",
        "1.0",
        "linux/amd64",
        url=stand_in.url + path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content) if sized else 0,
        hash_source="this test",
    )


def get(lab, wanted: Row, to: Path, stall: float = 5.0) -> None:
    download.fetch(lab.ctx, wanted, to, stall=stall, pause=0.0)


@pytest.mark.parametrize("sized", [True, False])
def test_whole_file(lab, stand_in, tmp_path: Path, sized: bool) -> None:
    stand_in.content = CONTENT
    get(lab, row(stand_in, sized=sized), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert lab.events[0] == ProgressStarted("download tool 1.0", len(CONTENT) if sized else None, "B")
    assert lab.events[-2:] == [
        ProgressAdvanced("download tool 1.0", len(CONTENT)),
        ProgressFinished("download tool 1.0", ok=True),
    ]
    assert list((cache.home(lab.ctx) / "downloads").iterdir()) == []


@pytest.mark.parametrize("sized", [True, False])
def test_cut_connection_goes_on_where_it_stopped(lab, stand_in, tmp_path: Path, sized: bool) -> None:
    stand_in.content = CONTENT
    stand_in.cut_after = [100_000, 200_000]
    get(lab, row(stand_in, sized=sized), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert [wanted for _, wanted in stand_in.asked] == ["", "bytes=100000-", "bytes=300000-"]


def test_server_without_ranges_sends_it_all_again(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content, stand_in.ranges, stand_in.cut_after = CONTENT, False, [100_000]
    get(lab, row(stand_in), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT


def test_silence_ends_the_try_not_the_download(
    lab, stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, limits = urllib.request.urlopen, iter([0.05, 60.0])

    def urlopen(request: urllib.request.Request, timeout: float) -> object:
        assert timeout == 7.0  # what was asked for; the second try gets all the time it takes
        return real(request, timeout=next(limits))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    stand_in.content, stand_in.stall = CONTENT, 1
    get(lab, row(stand_in), tmp_path / "tool", stall=7.0)
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert len(stand_in.asked) == 2


def test_always_cut_short_is_refused_and_kept_for_later(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content, stand_in.cut_after = CONTENT, [1000] * 10
    with pytest.raises(ArtifactError, match="connection closed after 4000 of"):
        get(lab, row(stand_in), tmp_path / "tool")
    assert not (tmp_path / "tool").exists()
    stand_in.cut_after, stand_in.asked = [], []
    get(lab, row(stand_in), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert stand_in.asked == [("/tool", "bytes=4000-")]


def test_changed_file_is_never_used(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content = b"X" + CONTENT[1:]
    with pytest.raises(ArtifactError, match="is not the pinned file: sha256") as error:
        get(lab, row(stand_in), tmp_path / "tool")
    assert error.value.where == stand_in.url + "/tool"
    assert not (tmp_path / "tool").exists()
    assert list((cache.home(lab.ctx) / "downloads").iterdir()) == []
    assert lab.events[-1] == ProgressFinished("download tool 1.0", ok=False)


def test_wrong_part_of_an_earlier_time_is_dropped(lab, stand_in, tmp_path: Path) -> None:
    wanted = row(stand_in)
    stand_in.content = CONTENT
    parts = cache.home(lab.ctx) / "downloads"
    parts.mkdir()
    (parts / f"{cache.key_of(wanted.hash)}.part").write_bytes(b"\0" * 5000)
    get(lab, wanted, tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert [wanted for _, wanted in stand_in.asked] == ["bytes=5000-", ""]


def test_part_longer_than_the_file(lab, stand_in, tmp_path: Path) -> None:
    wanted = row(stand_in, sized=False)
    stand_in.content = CONTENT
    parts = cache.home(lab.ctx) / "downloads"
    parts.mkdir()
    (parts / f"{cache.key_of(wanted.hash)}.part").write_bytes(CONTENT + b"more")
    get(lab, wanted, tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT


def test_another_length_than_pinned_is_refused_before_it_is_read(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content = CONTENT + b"more"
    with pytest.raises(
        ArtifactError, match=f"has {len(CONTENT) + 4} bytes there, {len(CONTENT)} are pinned"
    ) as error:
        get(lab, row(stand_in), tmp_path / "tool")
    assert "not used" in error.value.action
    assert not (tmp_path / "tool").exists()


def test_not_found_is_final(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content, stand_in.status = CONTENT, [404] * 5
    with pytest.raises(ArtifactError, match="HTTP 404"):
        get(lab, row(stand_in), tmp_path / "tool")
    assert len(stand_in.asked) == 1


def test_server_error_is_asked_again(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content, stand_in.status = CONTENT, [503, 500]
    get(lab, row(stand_in), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert len(stand_in.asked) == 3


def test_redirect_is_followed(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content = CONTENT
    get(lab, row(stand_in, path="/moved/tool"), tmp_path / "tool")
    assert (tmp_path / "tool").read_bytes() == CONTENT
    assert [path for path, _ in stand_in.asked] == ["/moved/tool", "/tool"]


def test_row_without_hash_is_refused_unasked(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content = CONTENT
    with pytest.raises(ArtifactError, match="no public source known to slipway gives its hash"):
        get(lab, Row("tool", "1.0", "linux/amd64", url=stand_in.url), tmp_path / "tool")
    assert stand_in.asked == []


def test_nobody_listens(lab, stand_in, tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    free = server.server_address[1]
    server.server_close()
    stand_in.url = f"http://127.0.0.1:{free}"
    with pytest.raises(ArtifactError, match="Connection refused"):
        get(lab, row(stand_in), tmp_path / "tool")


def module(folder: Path, *, changed: bool = False) -> tuple[bytes, str]:
    """A module's zip and the hash that `go mod download` prints for one of these files."""
    path = folder / "module.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("example.org/m@v1.0.0/m.go", "package m\n" + "// changed\n" * changed)
        archive.writestr("example.org/m@v1.0.0/go.mod", "module example.org/m\n")
    return path.read_bytes(), "h1:AdVsGnRNAa6r1Ze3X1rHvd1Tt4t/JwWNnRt8ei0uGak="


@pytest.mark.parametrize("changed", [False, True])
def test_a_module_is_checked_by_its_content(lab, stand_in, tmp_path: Path, changed: bool) -> None:
    stand_in.content, expected = module(tmp_path, changed=changed)
    wanted = Row("m", "v1.0.0", "any", url=f"{stand_in.url}/m.zip", h1=expected, hash_source="this test")
    if not changed:
        get(lab, wanted, tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == stand_in.content
        return
    with pytest.raises(ArtifactError, match="not the pinned file: its files are h1:"):
        get(lab, wanted, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_what_is_no_zip_is_no_module(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content = b"<html>log in first</html>"
    wanted = Row("m", "v1.0.0", "any", url=stand_in.url, h1=module(tmp_path)[1], hash_source="this test")
    with pytest.raises(ArtifactError, match="not a whole zip"):
        get(lab, wanted, tmp_path / "got")


def test_a_login_goes_to_the_server_and_not_where_it_redirects(lab, stand_in, tmp_path: Path) -> None:
    stand_in.content = CONTENT
    download.fetch(
        lab.ctx, row(stand_in, path="/moved/tool"), tmp_path / "tool", headers={"Authorization": "Basic eDp5"}
    )
    assert [(path, headers.get("Authorization")) for path, headers in stand_in.headers] == [
        ("/moved/tool", "Basic eDp5"),
        ("/tool", None),
    ]
