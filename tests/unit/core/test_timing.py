"""Where the time of a run went."""

from __future__ import annotations

from slipway.core.timing import critical_path, whole_seconds
from slipway.core.types import Result

# image waits for hosts, provision and model; of these provision ends last
HOSTS = Result("hosts", "changed", "", 10.0)
PROVISION = Result("provision", "changed", "", 50.0, started=10.0, after=("hosts",))
MODEL = Result("model", "changed", "", 20.0)
IMAGE = Result("image", "failed", "", 5.0, 0, (), 7.0, started=60.5, after=("hosts", "provision", "model"))
DEPLOY = Result("deploy", "not_run", "image failed", 0.0, after=("image",))


def labels(*results: Result) -> list[str]:
    return [result.label for result in critical_path(results)]


def test_the_path_goes_back_from_the_last_to_end_through_what_it_waited_for_longest() -> None:
    assert labels(HOSTS, PROVISION, MODEL, IMAGE, DEPLOY) == ["hosts", "provision", "image"]
    slow = Result("model", "changed", "", 60.2)
    assert labels(HOSTS, PROVISION, slow, IMAGE, DEPLOY) == ["model", "image"]


def test_what_waited_for_nothing_is_a_path_of_its_own() -> None:
    assert labels(HOSTS, PROVISION, Result("model", "changed", "", 70.0)) == ["model"]
    assert labels() == labels(DEPLOY) == []


def test_a_run_lasts_until_the_last_evidence_is_there() -> None:
    assert whole_seconds((HOSTS, PROVISION, MODEL, IMAGE, DEPLOY)) == 72.5
    assert whole_seconds(()) == 0.0
