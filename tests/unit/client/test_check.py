"""What is counted when a server answers wrong, fails, hangs, or is another one; against the stand-in."""

import itertools
import threading
from dataclasses import replace

import grpc
import numpy as np
import pytest
from slipway_client import loop
from slipway_client.check import Report, check, methods_agree, report_from, sample, selection, unlike
from slipway_client.client import Answer
from slipway_client.connect import connect
from slipway_client.errors import NotReachable, RequestFailed, WrongModel, WrongSignature
from slipway_client.json_values import ShapeOnly
from slipway_client.loop import Ended, each, load
from slipway_client.requests import FixedRequest
from slipway_client.statistics import latency, summarize

from tests.standins.model_server import CLASSIFY, PREDICT, Behaviour, StandIn, fixed_requests


def _check(behaviour, requests=None, *, transport="grpc", timeout=60.0, **options):
    with StandIn(behaviour) as server:
        address = server.address if transport == "grpc" else server.rest
        with connect(address, transport, timeout=timeout) as client:
            return check(client, "mnist", requests or fixed_requests(), **options)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_right_server_is_right(transport):
    report = _check(Behaviour(version=5), transport=transport, concurrency=3)
    assert report.ok
    assert (report.requests, report.compared, report.labelled) == (15, 15, 15)
    assert (report.errors, report.differences, report.wrong) == (0, 0, 0)
    assert report.accuracy == 1.0
    assert report.versions == (5,)
    assert report.statuses == {"OK": 15}
    assert report.latency is not None


def test_a_wrong_answer_is_a_difference_even_when_the_class_is_right():
    report = _check(Behaviour(off_by=1e-4))
    assert (report.errors, report.differences, report.wrong) == (0, 12, 0)
    assert not report.ok
    assert "request 1 (predict predict_images): scores[0,0]" in report.failures[0]


def test_a_model_that_answers_otherwise_each_time_is_told_from_one_with_other_weights():
    words = "; asked again it answers otherwise: it is random, or it changes"
    random, other = _check(Behaviour(drift=0.1)), _check(Behaviour(off_by=0.1))
    assert random.failures[0].endswith(words)
    assert not any(failure.endswith(words) for failure in (*random.failures[1:], *other.failures))


def test_outputs_known_by_their_form_are_proved_by_it_and_counted():
    form = [one.answered({"scores": ShapeOnly("float32", (1, 3))}) for one in fixed_requests(3)][:3]
    report = _check(Behaviour(drift=0.1), form)
    assert (report.ok, report.compared, report.by_form) == (True, 3, 3)
    wrong = [one.answered({"scores": ShapeOnly("float32", (1, 4))}) for one in form]
    assert _check(Behaviour(), wrong).differences == 3


def test_a_sample_is_compared_by_what_is_recorded_of_it():
    known, form = fixed_requests(2)[:2]
    form = form.answered({"scores": ShapeOnly("float32", (1, 3))})
    with StandIn() as one, StandIn(Behaviour(drift=0.1)) as other:
        with connect(one.address) as client:
            ours = sample(client, "mnist", [form, known])
        with connect(other.address) as client:
            theirs = sample(client, "mnist", [form, known])
    assert unlike(theirs[:1], ours[:1], "of the other") == ""
    assert unlike(theirs, ours, "of the other").startswith("request 2 (predict): scores[0,0] is")


def test_signatures_that_disagree_as_recorded_are_not_compared():
    """Predict gives logits, say, and Classify probabilities."""
    predict, classify = fixed_requests(1)[0], fixed_requests(4)[-1]
    assert classify.method == "classify"
    with StandIn(Behaviour(classify_off_by=0.2)) as server, connect(server.address) as client:
        assert "row 0: Classify gives" in methods_agree(client, "mnist", [predict, classify])[1]
        ((_, answer),) = sample(client, "mnist", [classify])
        assert methods_agree(client, "mnist", [predict, replace(classify, expected=answer.outputs)]) == (
            0,
            "",
        )


def test_a_tolerance_of_the_line_is_obeyed():
    loose = [FixedRequest(**{**vars(one), "tolerance": 1e-3}) for one in fixed_requests(4)]
    assert _check(Behaviour(off_by=1e-4), loose).differences == 0


def test_a_wrong_class_is_counted_against_the_labels_only():
    wrong = [FixedRequest(**{**vars(one), "labels": (-1,)}) for one in fixed_requests(4)]
    report = _check(Behaviour(), wrong)
    assert (report.wrong, report.labelled, report.differences) == (7, 7, 0)
    assert report.ok
    assert report.accuracy == 0.0


def test_without_recorded_answers_and_labels_nothing_is_claimed():
    report = _check(Behaviour(off_by=0.5), fixed_requests(4, answers=False, labels=False))
    assert (report.compared, report.differences, report.accuracy) == (0, 0, None)


def test_errors_are_counted_by_status():
    report = _check(Behaviour(fail_with=grpc.StatusCode.INTERNAL, fail_every=3))
    assert report.statuses == {"OK": 10, "INTERNAL": 5}
    assert report.errors == 5
    assert report.compared == 10
    assert "INTERNAL" in report.failures[0]
    assert "told to fail" in report.failures[0]


def test_a_hanging_server_costs_a_few_deadlines_and_every_request_is_accounted_for():
    requests = selection(fixed_requests(), 100)
    hanging = Behaviour(fail_with=grpc.StatusCode.DEADLINE_EXCEEDED)  # every deadline passes, at once
    report = _check(hanging, requests, concurrency=2)
    assert report.requests == report.errors == len(requests)
    assert report.statuses["NOT_SENT"] == len(requests) - report.statuses["DEADLINE_EXCEEDED"]
    assert 4 <= report.statuses["DEADLINE_EXCEEDED"] <= 6


def test_another_model_or_signature_is_refused_before_anything_is_asked():
    with StandIn(Behaviour(model="fashion")) as server, connect(server.address) as client:
        with pytest.raises(WrongModel):
            check(client, "mnist", fixed_requests())
        assert server.requests == 0


@pytest.mark.parametrize(
    ("signatures", "words"),
    [
        ({"serving_default": (CLASSIFY, "inputs", "scores")}, "no signature 'predict_images'"),
        (
            {
                "predict_images": (PREDICT, "inputs", "outputs"),
                "serving_default": (CLASSIFY, "inputs", "scores"),
            },
            "takes inputs; the requests give images",
        ),
        (
            {
                "predict_images": (PREDICT, "images", "scores"),
                "serving_default": (PREDICT, "inputs", "scores"),
            },
            r"takes inputs \(float32\) and gives scores; classify wants inputs \(string: tf.Examples\)",
        ),
    ],
)
def test_a_signature_the_model_lacks_is_refused(signatures, words):
    with pytest.raises(WrongSignature, match=words):
        _check(Behaviour(signatures=signatures))


def test_an_unreachable_server_is_raised_at_the_deadline():
    with connect("127.0.0.1:1") as client, pytest.raises(NotReachable):
        check(client, "mnist", fixed_requests(), ready_timeout=0.1)


def test_selection():
    requests = fixed_requests(4)
    assert [one.method for one in selection(requests, 2)] == ["predict"] * 2 + ["classify"] * 2
    chosen = selection(requests, 10)
    assert [one.method for one in chosen] == ["predict"] * 10 + ["classify"] * 3
    assert chosen[4] is chosen[0]
    assert len(selection(requests[4:], 5)) == 5


def test_methods_and_transports_agree_or_say_where_not():
    requests = fixed_requests()
    with StandIn() as server, connect(server.address) as ours, connect(server.rest, "rest") as theirs:
        assert methods_agree(ours, "mnist", requests) == (3, "")
        assert unlike(sample(theirs, "mnist", requests), sample(ours, "mnist", requests), "over gRPC") == ""
        server.behaviour.classify_off_by = 0.01
        asked, found = methods_agree(ours, "mnist", requests)
        assert asked == 1
        assert "Classify gives class" in found
        server.behaviour.classify_off_by = 0.0
        server.behaviour.rest_off_by = 0.01
        found = unlike(sample(theirs, "mnist", requests), sample(ours, "mnist", requests), "over gRPC")
        assert "request 1 (predict): scores[0,0]" in found
        assert "over gRPC" in found


def test_nothing_agrees_when_nothing_can_be_asked_both_ways():
    with StandIn() as server, connect(server.address) as client:
        assert methods_agree(client, "mnist", fixed_requests(2)[:2]) == (0, "")
        assert methods_agree(client, "mnist", fixed_requests(2)[2:]) == (0, "")
        short = FixedRequest("classify", "serving_default", examples=({"x": np.zeros(3, np.float32)},))
        assert methods_agree(client, "mnist", [fixed_requests(1)[0], short]) == (0, "")


def test_a_report_survives_its_json():
    import json

    report = _check(Behaviour(fail_with=grpc.StatusCode.INTERNAL, fail_every=4), with_load=False)
    again = report_from(json.loads(json.dumps(report.as_json())))
    assert again == report
    assert isinstance(again, Report)


@pytest.mark.parametrize("data", [None, [], {}, {"format": 2}, {"format": 1}, {"format": 1, "latency": 3}])
def test_what_is_no_report_is_refused(data):
    with pytest.raises(ValueError, match="not a report"):
        report_from(data)


def test_percentiles_and_throughput():
    found = latency([number / 1000 for number in range(1, 101)])
    assert found is not None
    assert (found.p50, found.p90, found.p99, found.max) == (50.5, 90.1, 99.01, 100.0)
    assert latency([]) is None
    many = summarize([("OK", 0.001)] * 8 + [("INTERNAL", 5.0)] * 2, 4.0)
    assert (many.requests, many.errors, many.per_second) == (10, 2, 2.0)
    assert many.latency is not None
    assert many.latency.max == 1.0


def test_a_closed_loop_keeps_its_number_in_flight():
    guard, inside, most = threading.Lock(), [0], [0]
    full = threading.Barrier(3)

    def call():
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        full.wait(60)  # ends only when three are in flight together
        with guard:
            inside[0] -= 1

    ended, _ = each([call] * 12, 3)
    assert len(ended) == 12
    assert most[0] == 3


def test_a_defect_of_ours_is_not_counted_as_the_servers():
    def call():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        each([call] * 3, 2)


class OwnClocks:
    """A clock for each thread, so that a call takes exactly as long as it says, whatever runs beside it."""

    def __init__(self):
        self.own = threading.local()
        self.calls = threading.Semaphore(0)

    def monotonic(self):
        return getattr(self.own, "now", 0.0)

    def call(self, seconds):
        self.own.now = self.monotonic() + seconds
        self.calls.release()

    def sleep(self, seconds):
        """The watcher's: a window is over once a few calls were made in it."""
        self.own.now = self.monotonic() + seconds
        while self.calls.acquire(blocking=False):  # those made before it
            pass
        for _ in range(5):
            assert self.calls.acquire(timeout=60)


def test_a_load_ends_when_the_median_is_stable_and_says_when_it_never_was(monkeypatch):
    clock = OwnClocks()
    monkeypatch.setattr(loop, "time", clock)
    took = itertools.chain([0.050] * 8, itertools.repeat(0.005))  # a cold start
    steady = load([lambda: clock.call(next(took))], 2, window=0.1, most_windows=400)
    assert steady.stable
    assert len(steady.windows) >= 3
    assert max(steady.windows[-3:]) <= min(steady.windows[-3:]) * 1.1
    assert steady.statistics.errors == 0

    clock = OwnClocks()
    monkeypatch.setattr(loop, "time", clock)

    def refused():
        clock.call(0.005)
        raise RequestFailed("no")

    dead = load([refused], 2, window=0.02, most_windows=4)
    assert not dead.stable
    assert len(dead.windows) == 4
    assert dead.statistics.latency is None
    assert dead.statistics.errors == dead.statistics.requests > 0


def test_the_end_of_each_request_is_told():
    seen = []
    each([lambda: Answer({})] * 5, 2, on_end=lambda index, ended: seen.append((index, ended)))
    assert sorted(index for index, _ in seen) == [0, 1, 2, 3, 4]
    assert all(isinstance(ended, Ended) for _, ended in seen)
