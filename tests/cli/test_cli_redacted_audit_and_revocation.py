"""On the command line: the page that may leave, and a release that is taken back."""

import json

import pytest
from test_cli_audit_and_release import AUDIT, COUNTED, exported

from synthkit.domain.audit import AuditReport

REASON = "A patient withdrew consent before sealing"
VERIFY = ("release", "verify", "heart.synthkit", "--trust", "keys")


def revoke(synthkit, name="north", *more, target="north.json", **changes):
    options = {"name": name, "key": f"keys/{name}.pem", "reason": REASON, **changes}
    given = [text for option, value in options.items() for text in (f"--{option}", value)]
    return synthkit("release", "revoke", target, *given, *more)


def test_the_redacted_page_is_what_the_sealed_release_carries(clinic, synthkit):
    paths = (
        "--redacted",
        "red.html",
        "--redacted",
        "red.json",
        "--report",
        "full.html",
        "--save",
        "audit.json",
    )
    assert synthkit(*AUDIT, "synthetic.csv", "--policy", "lenient.toml", *COUNTED, *paths).code == 0
    report = AuditReport.from_json(json.loads((clinic / "audit.json").read_text()))
    assert json.loads((clinic / "red.json").read_text()) == report.coarse()
    assert set(report.sizes) == {"members", "holdout", "reference", "synthetic"}
    full, redacted = ((clinic / name).read_text() for name in ("full.html", "red.html"))
    for kept in (report.digest, report.schema_digest, "Patients: members", "<svg", "heart-patients"):
        assert kept in full
        assert kept not in redacted
    rates = {f"{one.attack_rate:.3f}" for one in report.attacks if 0.001 < one.attack_rate < 0.999}
    rates -= {"0.050", "0.100", "0.200", "0.500"}
    assert len(rates) > 5
    assert all(rate in full for rate in rates)
    assert not any(rate in redacted for rate in rates)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--redacted", "red.txt"), "neither .html nor .json"),
        (("--redacted", "same.html", "--report", "same.html"), "one name"),
        (("--redacted", "same.json", "--save", "./same.json"), "one name"),
        (("--redacted", "none/red.html"), "folder does not exist"),
    ],
)
def test_papers_that_cannot_be_told_apart_are_refused_before_any_work(clinic, synthkit, more, words):
    refused = synthkit(*AUDIT, "synthetic.csv", *more)
    assert (refused.code, words in refused.error) == (4, True)
    assert not list(clinic.glob("same.*"))


def test_a_revoked_release_is_neither_verified_nor_opened(clinic, synthkit):
    exported(synthkit)
    before = synthkit(*VERIFY, "--json")
    assert (before.code, before.document["revocations"]) == (0, [])
    other = revoke(synthkit, release="7" * 64)
    assert other.code == 0
    still = synthkit(*VERIFY, "--revocations", "north.json")
    assert still.code == 0
    assert "a newer one cannot be known offline" in still.out
    done = revoke(synthkit, "north", "--json", release="heart.synthkit")
    assert (done.code, done.document["counter"]) == (0, 2)
    for command in (VERIFY, ("release", "open", "heart.synthkit", "--trust", "keys", "-o", "stolen.csv")):
        refused = synthkit(*command, "--revocations", "north.json", "--json")
        assert (refused.code, refused.document["verified"]) == (6, False)
        assert "revoked by 'north' on" in refused.error
        assert REASON in refused.error
    assert not (clinic / "stolen.csv").exists()
    (clinic / "lists").mkdir()
    (clinic / "north.json").rename(clinic / "lists" / "north.json")
    assert synthkit(*VERIFY, "--revocations", "lists").code == 6


def test_a_revoked_officers_key_and_an_altered_list_end_with_6(clinic, synthkit):
    exported(synthkit)
    ada = (clinic / "keys/ada.pem.pub").read_text().strip()
    assert revoke(synthkit, "ada", **{"public-key": ada}, target="ada.json").code == 0
    refused = synthkit(*VERIFY, "--revocations", "ada.json")
    assert (refused.code, "'ada' revoked" in refused.error) == (6, True)
    data = (clinic / "ada.json").read_text()
    (clinic / "ada.json").write_text(data.replace("withdrew", "withheld"))
    altered = synthkit(*VERIFY, "--revocations", "ada.json")
    assert (altered.code, "signature is wrong" in altered.error) == (6, True)
    (clinic / "ada.json").write_text("")
    assert synthkit(*VERIFY, "--revocations", "ada.json").code == 6
    assert synthkit(*VERIFY, "--revocations", "missing.json").code == 4


def test_revoke_refuses_at_once_what_it_could_not_bring_about(clinic, synthkit):
    exported(synthkit)
    stranger = revoke(synthkit, "grace", release="heart.synthkit", target="grace.json")
    assert (stranger.code, "may not revoke it" in stranger.error) == (1, True)
    both = revoke(synthkit, release="heart.synthkit", **{"public-key": "0" * 64})
    assert (both.code, "name one thing" in both.error) == (4, True)
    assert revoke(synthkit).code == 4
    short = revoke(synthkit, release="heart.synthkit", reason="oops")
    assert (short.code, "reason" in short.error) == (4, True)
    assert revoke(synthkit, release="heart.synthkit", target="north.txt").code == 4
    assert not list(clinic.glob("north.*")) + list(clinic.glob("grace.*"))
    assert revoke(synthkit, release="heart.synthkit").code == 0
    again = revoke(synthkit, release="heart.synthkit")
    assert (again.code, "revoked already" in again.error) == (4, True)
    foreign = revoke(synthkit, "ada", release="heart.synthkit", target="north.json")
    assert (foreign.code, "another key's list" in foreign.error) == (4, True)
