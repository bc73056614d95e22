"""What the configuration of the kernel for virtual machines says, and how a kernel is held against it."""

from __future__ import annotations

from tests.vm.uml_kernel import configuration, lacking

WORDS = "# a comment with SMP in it\nCPUSETS NR_CPUS=4\n\n-SOUND\n"


def test_words_say_what_is_on_what_is_off_and_what_has_a_value() -> None:
    assert configuration(WORDS) == {"CPUSETS": "y", "NR_CPUS": "4", "SOUND": "n"}


def test_an_option_that_did_not_take_is_named() -> None:
    wanted = configuration(WORDS)
    assert lacking(wanted, "CONFIG_CPUSETS=y\nCONFIG_NR_CPUS=4\n# CONFIG_SOUND is not set\n") == []
    assert lacking(wanted, "# CONFIG_CPUSETS is not set\nCONFIG_NR_CPUS=2\nCONFIG_SOUND=y\n") == [
        "CPUSETS",
        "NR_CPUS",
        "SOUND",
    ]
