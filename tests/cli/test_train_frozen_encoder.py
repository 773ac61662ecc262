"""`train --encoder`: each sound way by one command, and every way in which it is refused in one line."""

import json
import shutil

import pytest
from small_ward import ward_table

from synthkit.cli.loading import policy_path
from synthkit.cli.main import run
from synthkit.data.table import SyntheticTable
from synthkit.domain.documents import schema_to_toml
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.training.artefact import load_model
from synthkit.training.freeze import encoder_digest

QUICK = ("--steps", "3", "--sample-rate", "0.2", "--declared-size", "300")
SGD = ("--generator", "medvae-sgd", *QUICK)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Two sites' tables under one schema, and a model of the other one without privacy."""
    folder = tmp_path_factory.mktemp("encoders")
    for name, seed in (("patients", 0), ("simulated", 1)):
        table = ward_table(200, seed=seed)
        made = SyntheticTable(schema=table.schema, frame=table.frame)
        (folder / f"{name}.csv").write_bytes(made.to_csv_bytes())
    (folder / "schema.toml").write_text(schema_to_toml(table.schema))
    draft = schema_to_toml(table.schema).replace("[columns.age]\n", '[columns.age]\nbins = "dp"\n')
    (folder / "draft.toml").write_text(draft)
    common = ("--schema", str(folder / "schema.toml"), *SGD, "--unsafe-no-dp", "--seed", "5")
    simulated = str(folder / "simulated.csv")
    assert run(["train", simulated, *common, "--site", "simulation", "-o", str(folder / "source")]) == 0
    assert run(["train", simulated, *common, "-o", str(folder / "ours")]) == 0
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


def train(synthkit, *more, schema="schema.toml", output="new", generator=SGD):
    given = ("--json", "-o", output, "--ledger", "ward.ledger", *more)
    return synthkit("train", "patients.csv", "--schema", schema, *generator, *given)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def header(folder):
    return json.loads((folder / "model.json").read_text())


def test_a_public_encoder_is_taken_frozen_named_and_vouched_for(ward, synthkit):
    answer = train(synthkit, "--epsilon", "2", "--encoder", "public:source")
    assert answer.code == 0, answer.err
    digest = encoder_digest(load_model(ward / "source").generator)
    assert answer.document["encoder"] == {"kind": "public", "digest": digest, "epsilon": None}
    assert (header(ward / "new")["encoder_provenance"], header(ward / "new")["encoder_digest"]) == (
        "public",
        digest,
    )
    assert encoder_digest(load_model(ward / "new").generator) == digest
    vows = [line for line in answer.err.splitlines() if "vouch" in line]
    assert len(vows) == 1
    assert "source" in vows[0]
    assert "no patient of this asset" in vows[0]
    assert answer.document["study_digest"] in (ward / "ward.ledger").read_text()


def test_random_features_need_no_vow(ward, synthkit):
    answer = train(synthkit, "--epsilon", "2", "--encoder", "random")
    assert answer.code == 0, answer.err
    assert answer.document["encoder_provenance"] == header(ward / "new")["encoder_provenance"] == "public"
    assert answer.document["encoder"]["kind"] == "random"
    assert "vouch" not in answer.err


def test_an_encoder_trained_first_is_part_of_the_whole(ward, synthkit):
    answer = train(synthkit, "--epsilon", "2", "--encoder", "dp:0.8")
    assert answer.code == 0, answer.err
    spend, encoder = answer.document["spend"], answer.document["encoder"]
    assert 0 < encoder["epsilon"] <= 0.8 < spend["epsilon"] <= 2
    assert answer.document["encoder_provenance"] == header(ward / "new")["encoder_provenance"] == "dp"
    found = verify_ledger(ward / "ward.ledger")
    assert (found.reservations, found.commits) == (2, 2)
    assert [getattr(event, "steps", None) for event in found.events] == [3, 3, None]
    assert len(Ledger.open(ward / "ward.ledger").history(answer.document["study_digest"])) == 3


def test_a_model_with_a_frozen_encoder_generates_as_any_other(ward, synthkit):
    assert train(synthkit, "--epsilon", "2", "--encoder", "random").code == 0
    answer = synthkit("generate", "new", "-n", "50", "-o", "rows.csv", "--json")
    assert (answer.code, answer.document["private"]) == (0, True)


def test_random_features_go_with_a_schema_that_is_bought(ward, synthkit):
    answer = train(synthkit, "--epsilon", "2", "--encoder", "random", schema="draft.toml")
    assert answer.code == 0, answer.err
    assert answer.document["preprocessing"]["columns"] == ["age"]


REFUSED = {
    "no such way": (("--epsilon", "2", "--encoder", "frozen"), "no such way"),
    "non_dp": (("--epsilon", "2", "--encoder", "non_dp:ours"), "no such way"),
    "public of nothing": (("--epsilon", "2", "--encoder", "public:"), "no such way"),
    "random of something": (("--epsilon", "2", "--encoder", "random:3"), "no such way"),
    "dp of nothing": (("--epsilon", "2", "--encoder", "dp"), "no such way"),
    "dp of a word": (("--epsilon", "2", "--encoder", "dp:much"), "positive number"),
    "dp of nan": (("--epsilon", "2", "--encoder", "dp:nan"), "positive number"),
    "dp of a negative": (("--epsilon", "2", "--encoder", "dp:-1"), "positive number"),
    "dp of all": (("--epsilon", "2", "--encoder", "dp:2"), "leaves nothing of 2"),
    "without privacy": (("--unsafe-no-dp", "--encoder", "random"), "private training"),
    "no folder": (("--epsilon", "2", "--encoder", "public:nowhere"), "not a model folder"),
    "this site's own": (("--epsilon", "2", "--encoder", "public:ours"), "without privacy"),
    "this study's own": (
        ("--epsilon", "2", "--study", "source", "--encoder", "public:source"),
        "without privacy",
    ),
}


@pytest.mark.parametrize(("words", "says"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_one_line_and_nothing_is_touched(ward, synthkit, words, says):
    before = files(ward)
    answer = train(synthkit, *words)
    assert answer.code == 4, answer.err
    assert says in answer.error
    assert answer.out == ""
    assert files(ward) == before


def test_the_default_generator_has_no_encoder(ward, synthkit):
    before = files(ward)
    answer = train(synthkit, "--epsilon", "2", "--encoder", "random", generator=("--declared-size", "300"))
    assert (answer.code, files(ward)) == (4, before)
    assert "medvae has no encoder to freeze" in answer.error


def test_paper_mode_takes_no_encoder(ward, synthkit):
    words = ("--mode", "paper", "--unsafe-no-dp", "--encoder", "random")
    answer = synthkit("train", "patients.csv", "--schema", "schema.toml", "-o", "new", *words)
    assert answer.code == 4
    assert "--encoder" in answer.error


def test_a_model_that_this_ledger_paid_for_is_not_public(ward, synthkit):
    """Neither as it is nor relabelled: the ledger knows its study."""
    assert train(synthkit, "--epsilon", "1", output="mine").code == 0
    document = header(ward / "mine") | {
        "site": "far away",
        "study": "another",
        "encoder_provenance": "public",
    }
    (ward / "mine" / "model.json").write_text(json.dumps(document))
    before = files(ward)
    answer = train(synthkit, "--epsilon", "1", "--encoder", "public:mine")
    assert (answer.code, files(ward)) == (4, before)
    assert "this ledger paid for it" in answer.error


def test_a_model_of_another_kind_layout_or_mode_is_no_encoder(ward, synthkit):
    common = ("--unsafe-no-dp", "--site", "simulation")
    schema = (ward / "schema.toml").read_text()
    (ward / "other.toml").write_text(schema.replace('"icu", ', ""))
    text = (ward / "simulated.csv").read_text().replace(",icu,", ",ward,")
    (ward / "other.csv").write_text(text)
    assert synthkit("train", "other.csv", "--schema", "other.toml", *SGD, *common, "-o", "other").code == 0
    assert "not the table's" in train(synthkit, "--epsilon", "2", "--encoder", "public:other").error
    paper = ("--mode", "paper", "--epochs", "1", *common)
    answer = synthkit("train", "simulated.csv", "--schema", "schema.toml", *paper, "-o", "paper")
    assert answer.code == 0, answer.err
    assert "kind medvae-sgd" in train(synthkit, "--epsilon", "2", "--encoder", "public:paper").error
    draft = train(synthkit, "--epsilon", "2", "--encoder", "public:source", schema="draft.toml")
    assert "still to be bought" in draft.error
    assert not (ward / "ward.ledger").exists()


def test_without_room_under_the_cap_not_even_the_encoder_is_trained(ward, synthkit):
    """The encoder alone would still fit."""
    text = policy_path("single-site").read_text().replace("epsilon = 6.0", "epsilon = 2.2", 1)
    (ward / "tight.toml").write_text(text.replace("max_epsilon = 3.0", "max_epsilon = 2.0", 1))
    policy = ("--policy", "tight.toml")
    assert train(synthkit, "--epsilon", "1.5", *policy, output="first").code == 0
    before = files(ward)
    answer = train(synthkit, "--epsilon", "2", "--encoder", "dp:0.5", *policy)
    assert answer.code == 5, answer.err
    assert files(ward) == before
    assert train(synthkit, "--epsilon", "0.5", *policy, output="second").code == 0
