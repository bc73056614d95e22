"""A run told three ways, at every point it can end, with hostile text in it."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from slipway.core.types import (
    MADE_BY,
    Cluster,
    Endpoints,
    ExportedModel,
    Gate,
    Host,
    HostPlay,
    Hosts,
    ImageRef,
    LatencyMs,
    Node,
    Proof,
    Replica,
    ReplicaProof,
    Result,
    Run,
    Values,
)
from slipway.report.page import duration, link, percent
from slipway.report.write import write

HOSTILE = "</pre><script>alert('x')</script>&\"'\x1b[31mred\x1b[0m\x00\x07\ufffe \U0001f600"
STAGES = ("hosts", "provision", "model", "image", "deploy", "smoke")
VERSIONS = {"slipway": "0.1.0", "kubernetes": "1.36.3"}


def replica(pod: str, node: str, **what: object) -> ReplicaProof:
    good = ReplicaProof(f"10.244.0.1:{8500}", pod, node, 100, 0, 7, 0, 1)
    return replace(good, **what)  # type: ignore[arg-type]  # its own fields


def proof(*replicas: ReplicaProof, ok: bool = True) -> Proof:
    return Proof(
        ok=ok,
        server="mnist-service:8500",
        transport="gRPC",
        requests=sum(one.requests for one in replicas),
        errors=sum(one.errors for one in replicas),
        wrong=sum(one.wrong for one in replicas),
        differences=sum(one.differences for one in replicas),
        accuracy=0.93,
        latency_ms=LatencyMs(0.8, 1.1, 2.0, 5.5),
        throughput_rps=1500.4,
        replicas=replicas,
        gates=(Gate("errors", 0, sum(one.errors for one in replicas), ok), Gate("differences", 0, 0, True)),
    )


def values() -> Values:
    two = (Replica("pod-a", "worker-1", "10.244.1.2", 8500, 8501),)
    return Values(
        hosts=Hosts("nspawn", (Host("cp", "10.77.0.2", "root", "ssh-ed25519 AAAA", ("control_plane",)),)),
        cluster=Cluster(
            Path("kubeconfig"),
            Path("kubectl"),
            "https://10.77.0.2:6443",
            (Node("cp", "10.77.0.2", "control_plane", "v1.36.3"),),
            None,
            {"cp": HostPlay(40, 3, 0, 2, {"docker": 61.5, "registry": 4.0}, ("docker : Install",))},
        ),
        model=ExportedModel(Path("m/mnist/1"), "mnist", 1, "ab" * 32, Path("r.jsonl"), 0.9312, "MNIST"),
        image=ImageRef(
            "10.77.0.2:5000/slipway/mnist", "sha256:" + "c" * 64, "1-ab", "portable", "mnist", 1, "d"
        ),
        endpoints=Endpoints(
            "serving", "mnist-deployment", "mnist-service", "10.96.0.9", 8500, 8501, two, "engine"
        ),
        proof=proof(replica("pod-a", "worker-1"), replica("pod-b", "worker-2")),
    )


def made_by(stage: str) -> object:
    """The value a stage hands on."""
    kind = next(kind for kind, maker in MADE_BY.items() if maker == stage)
    return values().of(kind)


def results(failed: str | None = None, reason: str = "it broke") -> tuple[Result, ...]:
    out: list[Result] = []
    for name in STAGES:
        if out and out[-1].status in ("failed", "not_run"):
            out.append(Result(name, "not_run", f"{failed} failed", 0.0))
        elif name == failed:
            out.append(Result(name, "failed", reason, 2.5, evidence=(f"evidence/{name}.log",)))
        else:
            out.append(Result(name, "changed", f"{name} done", 10.0, changed=1))
    after = [(), *((name,) for name in STAGES)]  # one after the other
    return tuple(replace(one, started=10.0 * number, after=after[number]) for number, one in enumerate(out))


class Tags(HTMLParser):
    """Opened and closed tags, so that a page that does not nest is found."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(path: Path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    tags.close()
    assert not tags.open
    return tags


def files(
    tmp_path: Path, results: tuple[Result, ...], values: Values, versions: dict[str, str]
) -> tuple[dict[str, Any], ET.Element, Tags]:
    made = write(tmp_path, Run(True, results, values, versions))
    assert [path.name for path in made] == ["run.json", "junit.xml", "index.html"]
    return json.loads(made[0].read_text()), ET.parse(made[1]).getroot(), parsed(made[2])


def test_a_proven_run_is_told_the_same_in_all_three(tmp_path: Path) -> None:
    run, junit, page = files(tmp_path, results(), values(), VERSIONS)
    assert run["ok"] is True
    assert set(run) == {"ok", "stages", "seconds", "critical_path", "versions", "hosts"}
    assert [stage["name"] for stage in run["stages"]] == list(STAGES)
    assert set(run["stages"][0]) == {
        "name",
        "status",
        "reason",
        "seconds",
        "changed",
        "evidence",
        "evidence_seconds",
        "started",
        "after",
    }
    assert (run["seconds"], run["critical_path"]) == (60.0, {"stages": list(STAGES), "seconds": 60.0})
    assert run["versions"] == VERSIONS
    assert (junit.get("failures"), junit.get("skipped")) == ("0", "0")
    assert junit.get("tests") == str(len(STAGES) + 2 + 2)
    text = "".join(page.text)
    for wanted in (
        "Proven: 2 of 2 replicas",
        "93.1 %",
        "93 %",
        "pod-b",
        "worker-2",
        "sha256:" + "c" * 64,
        "1.36.3",
    ):
        assert wanted in text, wanted


def test_each_model_of_a_server_has_its_part(tmp_path: Path) -> None:
    bad = replace(proof(replica("pod-a", "worker-1", differences=3), ok=False), model="digits")
    whole = replace(proof(replica("pod-a", "worker-1")), model="mnist", beside=(bad,), ok=False)
    run, junit, page = files(tmp_path, results("smoke"), values().having(whole), VERSIONS)
    assert run["ok"] is False
    suites = {suite.get("name"): suite.get("failures") for suite in junit.iter("testsuite")}
    assert suites == {
        "stages": "1",
        **{"gates of mnist": "0", "replicas of mnist": "0"},
        **{"gates of digits": "1", "replicas of digits": "1"},
    }
    text = "".join(page.text)
    assert "does not answer as it must: model digits: errors" in text
    assert "Replicas of mnist" in text and "Gates of digits" in text
    assert len(page.ids) == len(set(page.ids))
    _, _, alone = files(tmp_path, results(), values(), VERSIONS)
    assert "Replicas of" not in "".join(alone.text)


def several(**models: Values) -> tuple[tuple[Result, ...], Values]:
    """A run of several models: the cluster once, the rest for each."""
    each = tuple(replace(result, model=name) for name in models for result in results()[2:])
    own = {name: replace(one, hosts=None, cluster=None) for name, one in models.items()}
    return (*results()[:2], *each), Values(values().hosts, values().cluster, models=own)


def test_each_of_several_models_has_its_part(tmp_path: Path) -> None:
    good = values().having(replace(values().proof, model="mnist"))  # type: ignore[type-var]  # there is one
    beside = replace(proof(replica("pod-c", "worker-1")), model="letters")
    digits = replace(proof(replica("pod-c", "worker-1")), model="digits", beside=(beside,))
    (tmp_path / "models" / "mnist").mkdir(parents=True)
    (tmp_path / "models" / "mnist" / "smoke.json").write_text("{}")
    run, junit, page = files(tmp_path, *several(mnist=good, digits=values().having(digits)), VERSIONS)
    assert run["ok"] is True
    assert {name: told["proven"] for name, told in run["models"].items()} == {"mnist": True, "digits": True}
    assert run["models"]["mnist"]["service"] == "mnist-service"
    assert {stage.get("model", "") for stage in run["stages"]} == {"", "mnist", "digits"}
    assert [host["name"] for host in run["hosts"]] == ["cp"]
    assert [suite.get("name") for suite in junit.iter("testsuite")] == [
        "stages",
        *("gates of mnist", "replicas of mnist", "gates of digits", "replicas of digits"),
        *("gates of letters beside digits", "replicas of letters beside digits"),
    ]
    assert "smoke digits" in {case.get("name") for case in junit.iter("testcase")}
    text = "".join(page.text)
    assert "Proven: 3 of 3 replicas answer correctly for each of 3 of their models" in text
    for wanted in ("deploy mnist", "Replicas of mnist", "Gates of digits", "What is deployed of digits"):
        assert wanted in text, wanted
    assert len(page.ids) == len(set(page.ids))
    assert ("a", "href", "./models/mnist/smoke.json") in page.attributes


def test_several_models_are_proven_when_each_is(tmp_path: Path) -> None:
    bad = values().having(proof(replica("pod-a", "worker-1", errors=3), ok=False))
    run, _, page = files(tmp_path, *several(mnist=values(), digits=bad), VERSIONS)
    assert run["ok"] is False
    assert run["models"]["digits"]["proven"] is False
    assert "The deployment of digits does not answer as it must: errors" in "".join(page.text)
    unproved = replace(values(), proof=None)
    run, _, page = files(tmp_path, *several(mnist=values(), digits=unproved), VERSIONS)
    assert run["models"]["digits"] == {
        "proven": False,
        "image": "10.77.0.2:5000/slipway/mnist@sha256:" + "c" * 64,
        "namespace": "serving",
        "service": "mnist-service",
    }
    assert "Nothing is proven" in "".join(page.text)


def test_run_json_says_what_the_play_did_to_each_host(tmp_path: Path) -> None:
    run, _, _ = files(tmp_path, results(), values(), VERSIONS)
    (host,) = run["hosts"]
    assert {name: host[name] for name in ("name", "ok", "changed", "failed", "skipped", "roles")} == {
        "name": "cp",
        "ok": 40,
        "changed": 3,
        "failed": 0,
        "skipped": 2,
        "roles": {"docker": 61.5, "registry": 4.0},
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_failed_at_any_stage_is_told_whole(tmp_path: Path, stage: str) -> None:
    have = Values()
    for name in STAGES[: STAGES.index(stage)]:
        have = have.having(made_by(name))
    run, junit, page = files(tmp_path, results(stage), have, VERSIONS)
    assert run["ok"] is False
    (failure,) = junit.iter("failure")
    assert failure.get("message") == "it broke"
    assert int(junit.get("skipped", -1)) == len(STAGES) - STAGES.index(stage) - 1
    assert f"Failed in stage {stage}" in "".join(page.text)


def test_what_ran_beside_the_rest_is_drawn_beside_it_and_not_on_the_critical_path(tmp_path: Path) -> None:
    hosts, provision, model = results()[:3]
    some = (hosts, provision, replace(model, started=0.0, after=(), seconds=5.0))
    run, _, page = files(tmp_path, some, Values(), VERSIONS)
    assert (run["seconds"], run["critical_path"]["stages"]) == (20.0, ["hosts", "provision"])
    assert [stage["started"] for stage in run["stages"]] == [0.0, 10.0, 0.0]
    text = "".join(page.text)
    assert "20.0 s in all" in text
    assert "Critical path: hosts, provision, 20.0 s one after the other." in text
    bars = [value for tag, name, value in page.attributes if tag == "span" and name == "style"]
    assert bars == [
        "margin-left: 0.0%; width: 50.0%",
        "margin-left: 50.0%; width: 50.0%",
        "margin-left: 0.0%; width: 25.0%",
    ]


def test_nothing_at_all_is_not_proven(tmp_path: Path) -> None:
    run, junit, page = files(tmp_path, (), Values(), {})
    none = {"seconds": 0, "critical_path": {"stages": [], "seconds": 0}}
    assert run == {"ok": False, "stages": [], **none, "versions": {}, "hosts": []}
    assert junit.get("tests") == "0"
    assert "Nothing ran" in "".join(page.text)


def test_a_part_of_the_chain_is_done_and_not_proven(tmp_path: Path) -> None:
    have = replace(values(), endpoints=None, proof=None)
    later = tuple(Result(name, "not_run", "not asked for", 0.0) for name in STAGES[4:])
    run, junit, page = files(tmp_path, results()[:4] + later, have, VERSIONS)
    assert run["ok"] is True
    assert junit.get("skipped") == "2"
    assert "Nothing is proven" in "".join(page.text)
    assert ("div", "class", "outcome done") in page.attributes


def test_a_proof_that_does_not_hold_is_never_ok(tmp_path: Path) -> None:
    have = values().having(proof(replica("pod-a", "worker-1", errors=1), ok=False))
    run, _, page = files(tmp_path, results(), have, VERSIONS)
    assert run["ok"] is False
    assert ("div", "class", "outcome failed") in page.attributes


def test_a_bad_replica_is_named_with_pod_and_node(tmp_path: Path) -> None:
    bad = replica("pod-b", "worker-2", differences=4, error="wrong model")
    have = values().having(proof(replica("pod-a", "worker-1"), bad, ok=False))
    run, junit, page = files(tmp_path, results("smoke", "1 gate failed"), have, VERSIONS)
    assert run["ok"] is False
    messages = {
        case.get("name"): failure.get("message", "")
        for case in junit.iter("testcase")
        if case.get("classname") == "slipway.replicas" and (failure := case.find("failure")) is not None
    }
    assert list(messages) == ["pod-b"]
    assert "pod pod-b on node worker-2" in messages["pod-b"]
    assert "4 of 100 answers differ" in messages["pod-b"]
    assert "wrong model" in messages["pod-b"]
    gates = {
        case.get("name"): case.find("failure")
        for case in junit.iter("testcase")
        if "gates" in case.get("classname", "")
    }
    assert gates["errors"] is not None and gates["differences"] is None
    assert "pod pod-b on node worker-2" in (gates["errors"].text or "")
    text = "".join(page.text)
    assert "does not answer as it must: errors" in text
    assert "1 of 2" in text


def test_trouble_that_the_gates_allow_is_not_a_failed_case(tmp_path: Path) -> None:
    have = values().having(proof(replica("pod-a", "worker-1", errors=1), ok=True))
    run, junit, _ = files(tmp_path, results(), have, VERSIONS)
    assert run["ok"] is True
    assert junit.get("failures") == "0"


def test_a_replica_that_never_answered_fails(tmp_path: Path) -> None:
    silent = replica("pod-c", "worker-1", requests=0, model_version=None)
    have = values().having(proof(silent, ok=False))
    _, junit, page = files(tmp_path, results("smoke"), have, VERSIONS)
    assert any("answered nothing" in failure.get("message", "") for failure in junit.iter("failure"))
    assert "unknown" in "".join(page.text)


def test_a_gate_says_what_its_numbers_cannot(tmp_path: Path) -> None:
    gates = (
        Gate("errors", 0, 0, True),
        Gate("differences", 0, 0, True, "no recorded answers"),
        Gate("failures_from_a_pod", 0, 100, False, f"the pod never ran: {HOSTILE}"),
    )
    have = values().having(replace(proof(replica("pod-a", "worker-1"), ok=False), gates=gates))
    _, junit, page = files(tmp_path, results("smoke"), have, VERSIONS)
    text = "".join(page.text)
    for wanted in ("held: no recorded answers", "failed: the pod never ran: </pre><script>"):
        assert wanted in text
    assert text.count("held") == 2 and text.count("held:") == 1  # nothing hangs behind a gate without a note
    failures = {
        case.get("name"): failure.get("message", "")
        for case in junit.iter("testcase")
        if case.get("classname") == "slipway.gates" and (failure := case.find("failure")) is not None
    }
    assert list(failures) == ["failures_from_a_pod"]
    assert "100, the limit is 0 (the pod never ran: " in failures["failures_from_a_pod"]


def test_hostile_text_is_shown_and_never_run(tmp_path: Path) -> None:
    bad = replica(HOSTILE, HOSTILE, error=HOSTILE, errors=3)
    have = (
        values()
        .having(proof(bad, ok=False))
        .having(ExportedModel(Path("m"), HOSTILE, 1, HOSTILE, Path("r"), None, HOSTILE))
    )
    log = results("smoke", f"{HOSTILE}\n{HOSTILE}")
    log = (
        *log[:-1],
        replace(log[-1], evidence=("javascript:alert(1)", "../../etc/passwd", HOSTILE.strip("\x00"))),
    )
    run, junit, page = files(tmp_path, log, have, {HOSTILE: HOSTILE})
    assert run["stages"][-1]["reason"] == f"{HOSTILE}\n{HOSTILE}"
    assert any("<script>" in failure.get("message", "") for failure in junit.iter("failure"))
    assert "script" not in page.seen
    raw = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not any(bad in raw for bad in ("<script", "\x1b", "\x00", "\x07"))
    assert "<script>alert('x')</script>" in "".join(page.text)
    assert not [value for _, name, value in page.attributes if name.startswith("on") or "javascript" in value]


def test_the_page_needs_nothing_from_outside_and_can_be_read_by_all(tmp_path: Path) -> None:
    _, _, page = files(tmp_path, results(), values(), VERSIONS)
    assert not {"script", "img", "link", "iframe", "object"} & set(page.seen)
    style = (tmp_path / "index.html").read_text()
    assert "url(" not in style and "@import" not in style
    for tag, name, value in page.attributes:
        if name in ("href", "src"):
            assert value.startswith("./"), (tag, value)
    assert ("html", "lang", "en") in page.attributes
    assert page.seen.count("h1") == 1
    assert page.seen.count("th") == sum(
        1 for tag, name, _ in page.attributes if tag == "th" and name == "scope"
    )
    labels = [value for _, name, value in page.attributes if name == "aria-labelledby"]
    assert labels and set(labels) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_time_of_collecting_evidence_is_part_of_the_run(tmp_path: Path) -> None:
    failed = tuple(
        replace(one, evidence_seconds=27.5) if one.status == "failed" else one for one in results("deploy")
    )
    run, _, page = files(tmp_path, failed, Values(), VERSIONS)
    assert [stage["evidence_seconds"] for stage in run["stages"] if stage["status"] == "failed"] == [27.5]
    text = "".join(page.text)
    assert "and 27.5 s of collecting evidence" in text
    assert "1 min 10 s in all" in text


def test_links_reach_evidence_inside_the_run_and_nothing_else(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "2026"
    (run_dir / "evidence").mkdir(parents=True)
    (run_dir / "evidence" / "a b#1.log").write_text("x")
    (tmp_path / "secret").write_text("x")
    assert link(run_dir, "evidence/a b#1.log").href == "./evidence/a%20b%231.log"
    assert link(run_dir, str(run_dir / "evidence" / "a b#1.log")).href == "./evidence/a%20b%231.log"
    assert link(run_dir, "evidence/gone.log").href == ""
    assert link(run_dir, "../../secret").href == ""
    assert link(run_dir, str(tmp_path / "secret")).href == ""


def test_smoke_json_is_linked_only_when_it_is_there(tmp_path: Path) -> None:
    _, _, page = files(tmp_path, results(), values(), VERSIONS)
    assert ("a", "href", "./smoke.json") not in page.attributes
    (tmp_path / "smoke.json").write_text("{}")
    _, _, page = files(tmp_path, results(), values(), VERSIONS)
    assert ("a", "href", "./smoke.json") in page.attributes


def test_the_report_lies_in_the_folder_of_the_run(tmp_path: Path) -> None:
    made = write(tmp_path, Run(True, results(), values(), VERSIONS))
    assert [path.name for path in made] == ["run.json", "junit.xml", "index.html"]
    assert all(path.parent == tmp_path and path.is_file() for path in made)


def test_numbers_for_people() -> None:
    assert [duration(x) for x in (0.04, 59.94, 60, 3599.6)] == ["0.0 s", "59.9 s", "1 min 0 s", "60 min 0 s"]
    assert [percent(x) for x in (1.0, 0.9999, 0.93, 0.057, 0.0)] == [
        "100 %",
        "99.9 %",
        "93 %",
        "5.7 %",
        "0 %",
    ]


def test_a_limit_nobody_asked_to_be_met_is_neither_held_nor_failed(tmp_path: Path) -> None:
    own = values()
    assert own.proof is not None
    gate = Gate("network_policy", 0, 1, True, "pod-a reached SSH", verdict="not enforced")
    told = replace(own, proof=replace(own.proof, gates=(*own.proof.gates, gate)))
    _, junit, page = files(tmp_path, results(), told, VERSIONS)
    case = next(one for one in junit.iter("testcase") if one.get("name") == "network_policy")
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not enforced: pod-a reached SSH"
    assert case.find("failure") is None
    text = " ".join("".join(page.text).split())
    assert "network_policy 0 1 not enforced: pod-a reached SSH" in text
    assert "Proven: 2 of 2 replicas" in text


def test_the_same_found_where_it_was_asked_for_is_a_failure_that_says_so(tmp_path: Path) -> None:
    own = values()
    assert own.proof is not None
    gate = Gate("network_policy", 0, 1, False, "pod-a reached SSH", verdict="not enforced")
    told = replace(own, proof=replace(own.proof, ok=False, gates=(*own.proof.gates, gate)))
    _, junit, page = files(tmp_path, results("smoke"), told, VERSIONS)
    case = next(one for one in junit.iter("testcase") if one.get("name") == "network_policy")
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("message") == "network_policy: 1, the limit is 0 (not enforced: pod-a reached SSH)"
    assert "failed, not enforced: pod-a reached SSH" in " ".join("".join(page.text).split())


def test_the_page_of_thousands_stays_small_and_shows_those_at_fault(tmp_path: Path) -> None:
    many = [replica(f"mnist-deployment-{number:05d}", f"node-{number % 1000:04d}") for number in range(3000)]
    many[2900] = replica("mnist-deployment-lost", "node-0900", requests=0)
    nodes = tuple(Node(f"node-{number:04d}", "10.0.0.1", "worker", "v1.36.3") for number in range(1000))
    held = values()
    assert held.cluster is not None
    told = replace(held, proof=proof(*many, ok=False), cluster=replace(held.cluster, nodes=nodes))
    _, junit, page = files(tmp_path, results("smoke"), told, VERSIONS)
    text = "".join(page.text)
    assert (tmp_path / "index.html").stat().st_size < 1_000_000
    assert len(page.seen) < 10_000
    assert "2999 of 3000" in text and "500 of 3000 are shown, those at fault first" in text
    assert text.index("mnist-deployment-lost") < text.index("mnist-deployment-00000")
    assert "mnist-deployment-02000" not in text
    assert "1000 nodes" in text and "v1.36.3, worker" in text and "node node-0999" not in text
    assert len(junit.findall(".//testsuite[@name='replicas']/testcase")) == 3000
