"""`train --mode paper` on the command line: never by accident, and no way from it to a release."""

import json

import pandas as pd
import pytest
from cli_clinic import SITE, policy_text

from synthkit.data.connectors import read_synthetic
from synthkit.domain.documents import schema_from_toml

TABLES = ("--members", "members.csv", "--holdout", "holdout.csv", "--reference", "reference.csv")
UNSAFE = ("--mode", "paper", "--unsafe-no-dp")
QUICK = (*UNSAFE, "--epochs", "2", "--batch-size", "64")


def train(synthkit, *more, output="paper"):
    return synthkit("train", "members.csv", "--schema", "schema.toml", "--site", SITE, "-o", output, *more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--mode", "paper"), "--unsafe-no-dp"),
        (("--mode", "paper", "--epsilon", "3"), "--unsafe-no-dp"),
        ((*UNSAFE, "--epsilon", "3"), "without --epsilon"),
        ((*UNSAFE, "--steps", "10"), "option --steps"),
        ((*UNSAFE, "--sample-rate", "0.1"), "option --sample-rate"),
        ((*UNSAFE, "--ledger", "heart.ledger"), "option --ledger"),
        ((*UNSAFE, "--generator", "medvae-sgd"), "no paper mode"),
        ((*UNSAFE, "--generator", "mcm", "--kl-weight", "1"), "option --kl-weight"),
        ((*UNSAFE, "--generator", "mcm", "--drop-rare", "0.1"), "option --drop-rare"),
        ((*UNSAFE, "--generator", "mcm", "--epochs", "0"), "setting epochs"),
        ((*UNSAFE, "--epochs", "0"), "setting epochs"),
        ((*UNSAFE, "--batch-size", "1"), "setting batch_size"),
        ((*UNSAFE, "--drop-rare", "2"), "setting rare_below"),
        ((*UNSAFE, "--held-out", "members.csv"), "the file exists"),
        (("--mode", "papers", "--unsafe-no-dp"), "private or paper"),
        (("--epsilon", "1", "--epochs", "5"), "--mode paper"),
        (("--unsafe-no-dp", "--drop-rare", "0.1"), "--mode paper"),
    ],
)
def test_what_is_not_said_in_full_is_refused_in_one_line(clinic, synthkit, more, words):
    answer = train(synthkit, *more)
    assert (answer.code, words in answer.error) == (4, True), answer.err
    assert answer.out == ""
    assert not (clinic / "paper").exists()


def test_from_a_table_to_rows_and_no_further(clinic, synthkit):
    """Trains, generates, audits under the study's ledger; sealing is refused by the policy's rule."""
    made = train(synthkit, *QUICK, "--json")
    assert made.code == 0, made.err
    assert "NOT PRIVATE" in made.err
    assert (made.document["mode"], made.document["unsafe"], made.document["spend"]) == ("paper", True, None)
    assert made.document["encoder_provenance"] == "non_dp"
    assert any("imputed row of every training patient" in line for line in made.document["holds"])
    rows = synthkit("generate", "paper", "-n", "300", "-o", "rows.csv", "--seed", "3", "--json")
    assert (rows.code, rows.document["private"]) == (0, False)
    assert "WITHOUT privacy" in rows.err
    schema = schema_from_toml((clinic / "schema.toml").read_text(), "schema")
    assert read_synthetic(clinic / "rows.csv", schema).digest == rows.document["table_digest"]
    again = synthkit("generate", "paper", "-n", "300", "-o", "again.csv", "--seed", "3", "--json")
    assert again.document["table_digest"] == rows.document["table_digest"]
    options = ("--schema", "schema.toml", "--policy", "lenient.toml", "--ledger", "heart.ledger")
    audit = ("audit", *TABLES, "--synthetic", "rows.csv", *options, "--model", "paper")
    assert synthkit(*audit, "--save", "audit.json").code in (0, 1, 2)
    synthkit("release", "keygen", "--name", SITE, "--role", "site", "-o", "keys")
    papers = ("--table", "rows.csv", "--model", "paper", "--audit", "audit.json", *options)
    sealed = synthkit("release", "seal", *papers, "--site", SITE, "--key", "keys/north.pem", "-o", "out")
    assert sealed.code == 1
    assert "release.allow_non_private" in sealed.error
    assert not (clinic / "out").exists()


def test_a_folder_that_claims_privacy_is_not_sealed(clinic, synthkit):
    """A spend written into the header by hand meets the provenance, and no reader opens the folder."""
    assert train(synthkit, *QUICK).code == 0
    header = json.loads((clinic / "paper" / "model.json").read_text())
    stolen = json.loads((clinic / "model" / "model.json").read_text())
    forged = {**header, "spend": stolen["spend"], "unsafe": False, "study_digest": stolen["study_digest"]}
    (clinic / "paper" / "model.json").write_text(json.dumps(forged))
    assert "malformed" in synthkit("generate", "paper", "-n", "5", "-o", "rows.csv").error
    options = ("--schema", "schema.toml", "--policy", "lenient.toml", "--ledger", "heart.ledger")
    audit = ("audit", *TABLES, "--synthetic", "synthetic.csv", *options)
    assert "without DP" in synthkit(*audit, "--model", "paper").error
    # Audited as the honest model's table, and then sealed as this one's.
    assert synthkit(*audit, "--model", "model", "--save", "audit.json").code == 0
    synthkit("release", "keygen", "--name", SITE, "--role", "site", "-o", "keys")
    papers = ("--table", "synthetic.csv", "--model", "paper", "--audit", "audit.json", *options)
    sealed = synthkit("release", "seal", *papers, "--site", SITE, "--key", "keys/north.pem", "-o", "out")
    assert (sealed.code, "without DP" in sealed.error) == (4, True)
    assert not (clinic / "out").exists()


def test_only_the_policys_own_words_let_it_out_and_then_the_papers_say_so(clinic, synthkit):
    """With allow_non_private = true a table may be sealed: the manifest then names no epsilon."""
    (clinic / "open.toml").write_text(policy_text(max_advantage="0.4", allow_non_private="true"))
    assert train(synthkit, *QUICK).code == 0
    assert synthkit("generate", "paper", "-n", "200", "-o", "rows.csv").code == 0
    options = ("--schema", "schema.toml", "--policy", "open.toml", "--ledger", "heart.ledger")
    audit = ("audit", *TABLES, "--synthetic", "rows.csv", *options, "--model", "paper")
    assert synthkit(*audit, "--save", "audit.json").code in (0, 1, 2)
    synthkit("release", "keygen", "--name", SITE, "--role", "site", "-o", "keys")
    papers = ("--table", "rows.csv", "--model", "paper", "--audit", "audit.json", *options)
    given = (*papers, "--site", SITE, "--key", "keys/north.pem", "-o", "out", "--json")
    sealed = synthkit("release", "seal", *given)
    assert sealed.code == 0, sealed.err
    assert sealed.document["epsilon"] is None


def test_a_fifth_of_the_patients_is_held_out_and_rare_columns_leave_the_schema(clinic, synthkit):
    given = (*QUICK, "--held-out", "held.csv", "--drop-rare", "0.4", "--json")
    answer = train(synthkit, *given)
    assert answer.code == 0, answer.err
    held, members = pd.read_csv(clinic / "held.csv"), pd.read_csv(clinic / "members.csv")
    assert 0.1 < len(held) / len(members) < 0.3
    assert list(held.columns) == list(members.columns)
    dropped = answer.document["dropped"]
    assert dropped
    schema = schema_from_toml((clinic / "paper.schema.toml").read_text(), "schema")
    assert not set(dropped) & set(schema.names)
    assert synthkit("generate", "paper", "-n", "5", "-o", "rows.csv").code == 0
    check = ("schema", "check", "rows.csv", "--schema", "paper.schema.toml")
    assert synthkit(*check).code == 0
    assert synthkit("schema", "check", "members.csv", "--schema", "paper.schema.toml").code == 0


MCM = (*UNSAFE, "--generator", "mcm", "--epochs", "5", "--batch-size", "64")


def test_the_published_mcm_from_a_table_to_rows_and_no_further(clinic, synthkit):
    """Its release is refused with what was measured on these very patients as the reason."""
    made = train(synthkit, *MCM, "--json")
    assert made.code == 0, made.err
    assert "NOT PRIVATE" in made.err
    assert any("row of every training patient" in line for line in made.document["holds"])
    (at_75,) = [one for one in made.document["linkage"] if one["mask_share"] == 0.75]
    linked = f"{100 * at_75['linked_rows']:.0f} % of the rows lead back"
    assert linked in made.err
    rows = synthkit("generate", "paper", "-n", "300", "-o", "rows.csv", "--json")
    assert (rows.code, rows.document["private"]) == (0, False)
    schema = schema_from_toml((clinic / "schema.toml").read_text(), "schema")
    assert read_synthetic(clinic / "rows.csv", schema).digest == rows.document["table_digest"]
    options = ("--schema", "schema.toml", "--policy", "lenient.toml", "--ledger", "heart.ledger")
    audit = ("audit", *TABLES, "--synthetic", "rows.csv", *options, "--model", "paper")
    assert synthkit(*audit, "--save", "audit.json").code in (0, 1, 2)
    synthkit("release", "keygen", "--name", SITE, "--role", "site", "-o", "keys")
    papers = ("--table", "rows.csv", "--model", "paper", "--audit", "audit.json", *options)
    sealed = synthkit("release", "seal", *papers, "--site", SITE, "--key", "keys/north.pem", "-o", "out")
    assert sealed.code == 1
    assert "release.allow_non_private" in sealed.error
    assert linked in sealed.error
    assert not (clinic / "out").exists()


def test_the_published_mcm_masks_another_share_and_fills_a_stratum(clinic, synthkit):
    assert train(synthkit, *MCM).code == 0
    digests = set()
    for share in ("0.5", "0.75", "0.9"):
        given = ("generate", "paper", "-n", "60", "-o", "rows.csv", "--force", "--mask-share", share)
        answer = synthkit(*given, "--json")
        assert answer.code == 0, answer.err
        digests.add(answer.document["table_digest"])
    assert len(digests) == 3
    name = next(iter(pd.read_csv(clinic / "members.csv").select_dtypes("number").columns))
    middle = pd.read_csv(clinic / "members.csv")[name].median()
    where = ("--where", f"{name} >= {middle:g}")
    answer = synthkit("generate", "paper", "-n", "60", "-o", "stratum.csv", *where, "--json")
    assert answer.code == 0, answer.err
    assert (pd.read_csv(clinic / "stratum.csv")[name] >= middle).all()


@pytest.mark.parametrize(("model", "share"), [("paper", "0"), ("paper", "1.5"), ("model", "0.5")])
def test_a_mask_share_that_means_nothing_is_refused_in_one_line(clinic, synthkit, model, share):
    assert train(synthkit, *MCM).code == 0
    given = ("generate", model, "-n", "5", "-o", "rows.csv", "--mask-share", share)
    answer = synthkit(*given)
    assert (answer.code, "--mask-share" in answer.error) == (4, True)
    assert not (clinic / "rows.csv").exists()
