"""Columns marked "dp": bought under the ledger before training, once, within epsilon, or not at all."""

import json
import re
import shutil

import pytest
from cli_clinic import POLICIES
from small_ward import WARD, ward_table

from synthkit.cli import train as train_command
from synthkit.cli.main import run
from synthkit.data.table import SyntheticTable
from synthkit.domain.documents import schema_from_toml, schema_to_toml
from synthkit.domain.privacy import DpSgdEvent, GaussianEvent, GaussianThresholdEvent, PrivacySpend
from synthkit.privacy.accounting import check_spend, reported_epsilon
from synthkit.privacy.ledger import Ledger, verify_ledger

QUICK = ("--generator", "medvae-sgd", "--steps", "3", "--sample-rate", "0.2", "--declared-size", "1500")
DRAFT = schema_to_toml(WARD)
for name, kind in (("age", "integer"), ("creatinine", "numeric"), ("unit", "categorical")):
    block = f'[columns.{name}]\nkind = "{kind}"\nprovenance = "dp"\n'
    DRAFT = re.sub(rf"\[columns\.{name}\]\n(?:.+\n)+", block, DRAFT)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """1,500 patients, a draft, and a model whose schema was bought."""
    folder = tmp_path_factory.mktemp("ward")
    made = SyntheticTable(schema=WARD, frame=ward_table(1_500).frame)
    (folder / "patients.csv").write_bytes(made.to_csv_bytes())
    (folder / "draft.toml").write_text(DRAFT)
    (folder / "public.toml").write_text(schema_to_toml(WARD))
    policy = (POLICIES / "single-site.toml").read_text("utf-8")
    (folder / "policy.toml").write_text(policy.replace("name-of-your-patient-population", "ward"))
    where = [str(folder / name) for name in ("patients.csv", "draft.toml", "own.ledger", "model")]
    table, draft, ledger, model = where
    given = ["--schema", draft, *QUICK, "--epsilon", "2", "--ledger", ledger, "-o", model]
    given += ["--policy", str(folder / "policy.toml")]
    assert run(["train", table, *given, "--preprocessing-share", "0.3"]) == 0
    return folder


@pytest.fixture
def ward(built, tmp_path, monkeypatch):
    folder = tmp_path / "ward"
    shutil.copytree(built, folder)
    monkeypatch.chdir(folder)
    return folder


def train(synthkit, *more, schema="draft.toml", output="new", epsilon="1", ledger="new.ledger"):
    given = ("--schema", schema, *QUICK, "--epsilon", epsilon, "--ledger", ledger, "-o", output)
    given += ("--policy", "policy.toml")
    return synthkit("train", "patients.csv", *given, *more)


def files(folder):
    found = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: data for path, data in found.items() if path.suffix != ".lock"}


def refused(answer, code, folder, before):
    assert answer.code == code, answer.err
    assert answer.error
    assert answer.out == ""
    assert files(folder) == before
    return answer.error


def reservations(path):
    ledger = Ledger.open(path)
    book = ledger._book
    return list(book.reservations.values()), ledger


def test_the_purchase_precedes_the_training_and_both_are_on_record(ward):
    (bought, trained), ledger = reservations("own.ledger")
    assert (bought.server_round, trained.server_round) == (0, 1)
    assert [type(event) for event in bought.events] == [GaussianEvent, GaussianThresholdEvent]
    completed = schema_from_toml((ward / "model.schema.toml").read_text(), "s")
    (commit,) = ledger.purchases(completed.digest)
    assert commit.reservation == bought
    assert verify_ledger("own.ledger").commits == 2


def test_the_model_states_all_that_it_cost_and_it_is_within_epsilon(ward):
    header = json.loads((ward / "model" / "model.json").read_text())
    spend = PrivacySpend.from_json(header["spend"])
    check_spend(spend)
    assert spend.events == Ledger.open("own.ledger").history()
    assert sum(isinstance(event, DpSgdEvent) for event in spend.events) == 1
    assert reported_epsilon(spend.events, 1e-5) == spend.epsilon <= 2
    completed = schema_from_toml((ward / "model.schema.toml").read_text(), "s")
    assert header["schema_digest"] == completed.digest
    assert set(completed.bought()) == {"age", "creatinine", "unit"}
    assert {c["name"] for c in header["schema"]["columns"] if c["provenance"] == "dp"} == set(
        completed.bought()
    )


def test_the_share_is_explicit_in_print_and_in_json(ward, synthkit):
    answer = train(synthkit, "--json", "--preprocessing-share", "0.4")
    assert answer.code == 0, answer.err
    document = answer.document["preprocessing"]
    assert document["share"] == 0.4
    assert 0 < document["epsilon"] <= 0.4
    assert document["columns"] == ["age", "creatinine", "unit"]
    assert answer.document["spend"]["epsilon"] <= 1
    assert "share 0.4" in answer.err
    assert (ward / document["schema"]).is_file()


def test_the_completed_schema_serves_every_later_command(ward, synthkit):
    assert synthkit("schema", "check", "patients.csv", "--schema", "model.schema.toml").code == 0
    assert synthkit("generate", "model", "-n", "200", "-o", "rows.csv").code == 0
    assert synthkit("schema", "check", "rows.csv", "--schema", "model.schema.toml").code == 0


def test_a_table_is_split_before_its_schema_is_bought(ward, synthkit):
    (ward / "parts").mkdir()
    assert synthkit("split", "patients.csv", "--schema", "draft.toml", "-o", "parts").code == 0
    lines = [
        len((ward / "parts" / f"{part}.csv").read_text().splitlines()) for part in ("members", "holdout")
    ]
    assert min(lines) > 100


def test_a_schema_bought_once_trains_again_without_paying_twice(ward, synthkit):
    answer = train(synthkit, "--json", schema="model.schema.toml", ledger="own.ledger", epsilon="1.5")
    assert answer.code == 0, answer.err
    found, ledger = reservations("own.ledger")
    assert [entry.server_round for entry in found] == [0, 1, 1]
    spend = PrivacySpend.from_json(json.loads((ward / "new" / "model.json").read_text())["spend"])
    assert spend.events == (*found[0].events, *found[2].events)
    assert spend.epsilon <= 1.5
    assert answer.document["preprocessing"]["share"] is None
    assert answer.document["preprocessing"]["schema"] is None
    assert ledger.open_reservations() == ()


def test_buying_twice_pays_twice_and_both_schemas_are_known(ward, synthkit):
    for name in ("one", "two"):
        given = ("--schema", "draft.toml", "--epsilon", "0.5", "--policy", "policy.toml")
        answer = synthkit(
            "schema", "buy", "patients.csv", *given, "--ledger", "b.ledger", "-o", f"{name}.toml", "--json"
        )
        assert answer.code == 0, answer.err
        assert 0 < answer.document["spend"]["epsilon"] <= 0.5
    ledger = Ledger.open("b.ledger")
    assert len(ledger.history()) == 4
    for name in ("one", "two"):
        digest = schema_from_toml((ward / f"{name}.toml").read_text(), "s").digest
        assert len(ledger.purchases(digest)) == 1
    assert train(synthkit, schema="one.toml", ledger="b.ledger", epsilon="2").code == 0


@pytest.mark.parametrize("what", ["no ledger", "another ledger", "edges altered", "a column more public"])
def test_a_schema_that_only_claims_to_be_bought_is_refused(ward, synthkit, what):
    schema, ledger = ward / "model.schema.toml", "own.ledger"
    text = schema.read_text()
    if what == "no ledger":
        ledger = "none.ledger"
    elif what == "another ledger":
        given = ("--schema", "draft.toml", "--epsilon", "0.5", "--policy", "policy.toml")
        assert (
            synthkit("schema", "buy", "patients.csv", *given, "--ledger", "b.ledger", "-o", "b.toml").code
            == 0
        )
        ledger = "b.ledger"
    elif what == "edges altered":
        schema.write_text(text.replace("\nmaximum = 127\n", "\nmaximum = 126\n", 1))
    else:
        head, _, tail = text.rpartition('provenance = "dp"')
        schema.write_text(f'{head}provenance = "public"{tail}')
    assert what in ("no ledger", "another ledger") or schema.read_text() != text
    before = files(ward)
    error = refused(train(synthkit, schema="model.schema.toml", ledger=ledger, epsilon="2"), 4, ward, before)
    assert "no purchase of exactly this schema" in error


def test_data_renamed_dp_buys_everything_anew(ward, synthkit):
    """A drafted schema with every "data" turned to "dp": no bound of the draft survives."""
    assert synthkit("schema", "infer", "patients.csv", "-o", "data.toml").code == 0
    text = (ward / "data.toml").read_text().replace('provenance = "data"', 'provenance = "dp"')
    (ward / "all.toml").write_text(text)
    before = files(ward)
    given = ("--epsilon", "2", "--policy", "policy.toml", "--ledger", "b.ledger", "-o", "b.toml")
    answer = synthkit("schema", "buy", "patients.csv", "--schema", "all.toml", *given)
    assert "two categories of a binary column cannot be bought" in refused(answer, 4, ward, before)
    text = re.sub(
        r'(kind = "binary"\ncategories = .+\n(?:missing = true\n)?provenance = )"dp"', r'\1"public"', text
    )
    (ward / "all.toml").write_text(text)
    answer = synthkit("schema", "buy", "patients.csv", "--schema", "all.toml", *given)
    assert answer.code == 0, answer.err
    drafted = schema_from_toml((ward / "data.toml").read_text(), "s")
    done = schema_from_toml((ward / "b.toml").read_text(), "s")
    assert drafted.column("troponin").maximum != done.column("troponin").maximum
    assert done.column("troponin").edges


def test_what_does_not_fit_the_budget_is_refused_before_anything_is_drawn(ward, synthkit):
    """The cap is 6: once the training would no longer fit, the purchase is not made either."""
    codes = []
    for turn in range(12):
        before = files(ward)
        answer = train(synthkit, epsilon="2.5", output=f"m{turn}", ledger="own.ledger")
        codes.append(answer.code)
        if answer.code:
            break
    refused(answer, 5, ward, before)
    assert len(codes) > 1
    found, ledger = reservations("own.ledger")
    assert sum(entry.server_round == 0 for entry in found) == len(codes)
    assert ledger.open_reservations() == ()


class _PowerCutError(BaseException):
    pass


def test_a_crash_between_reserve_and_commit_leaves_the_purchase_spent(ward, synthkit, monkeypatch):
    """The schema is drawn and the process dies before it is stored."""

    def die(*_args, **_kwargs):
        raise _PowerCutError

    monkeypatch.setattr(train_command, "save_text", die)
    with pytest.raises(_PowerCutError):
        train(synthkit, ledger="own.ledger")
    monkeypatch.undo()
    monkeypatch.chdir(ward)
    found, ledger = reservations("own.ledger")
    assert [entry.server_round for entry in found] == [0, 1, 0]
    assert ledger.open_reservations() == (found[-1],)
    assert ledger.history()[-2:] == found[-1].events
    assert not (ward / "new").exists()
    assert not (ward / "new.schema.toml").exists()


@pytest.mark.parametrize(
    ("more", "schema", "words"),
    [
        (("--preprocessing-share", "0"), "draft.toml", "between 0 and 1"),
        (("--preprocessing-share", "1"), "draft.toml", "between 0 and 1"),
        (("--preprocessing-share", "nan"), "draft.toml", "between 0 and 1"),
        (("--preprocessing-share", "0.2"), "public.toml", "nothing to be bought"),
        (("--preprocessing-share", "1e-9"), "draft.toml", "no noise reaches"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(ward, synthkit, more, schema, words):
    before = files(ward)
    assert words in refused(train(synthkit, *more, schema=schema), 4, ward, before)


def test_without_privacy_nothing_is_bought_silently(ward, synthkit):
    before = files(ward)
    answer = synthkit("train", "patients.csv", "--schema", "draft.toml", "--unsafe-no-dp", "-o", "new")
    assert "still to be bought" in refused(answer, 4, ward, before)


def test_a_completed_schema_in_the_way_is_not_replaced(ward, synthkit):
    (ward / "new.schema.toml").write_text("mine")
    before = files(ward)
    refused(train(synthkit), 4, ward, before)


def test_buying_more_than_the_policy_allows_is_refused_by_its_rule(ward, synthkit):
    before = files(ward)
    given = ("--schema", "draft.toml", "--policy", "policy.toml", "--ledger", "b.ledger", "-o", "b.toml")
    answer = synthkit("schema", "buy", "patients.csv", *given, "--epsilon", "3.5")
    assert "study.max_epsilon" in refused(answer, 1, ward, before)
    answer = synthkit("schema", "buy", "patients.csv", *given, "--epsilon", "1", "--delta", "1e-4")
    assert "study.max_delta" in refused(answer, 1, ward, before)


def test_too_few_patients_buy_nothing(ward, synthkit):
    lines = (ward / "patients.csv").read_text().splitlines()[:21]
    (ward / "few.csv").write_text("\n".join(lines) + "\n")
    before = files(ward)
    given = ("--schema", "draft.toml", "--policy", "policy.toml", "--ledger", "b.ledger", "-o", "b.toml")
    refused(synthkit("schema", "buy", "few.csv", *given, "--epsilon", "1"), 1, ward, before)
