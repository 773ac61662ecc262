"""EVA as published: its probabilities add up, nothing looks ahead, and what was saved draws the same."""

import json
import logging
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from record_ward import records_of, simulated, tiny_schema
from safetensors.numpy import load, save

from synthkit.domain.canonical import sha256_hex
from synthkit.domain.conditions import parse_conditions
from synthkit.domain.schema import Column, Kind
from synthkit.errors import ConditionError, InputError, SchemaError
from synthkit.generators.eva_paper import GAMMA, TAU, PaperEva, PaperSizes, WordBatch
from synthkit.training.artefact import HEADER, WEIGHTS, load_model
from synthkit.training.paper_artefact import open_model, open_published_records, save_paper
from synthkit.training.paper_eva import PublishedEvaC, conditions_of, train_eva
from synthkit.training.paper_eva_loop import EvaSettings
from synthkit.training.record_models import draw_from, likelihood_of, open_record_model

QUICK = EvaSettings(epochs=3, channels=12, latent=4, layers=2, words=200, posterior=2)


def network_of(**sizes) -> PaperEva:
    torch.manual_seed(3)
    return PaperEva(PaperSizes(**{"words": 5, "most_visits": 9, "channels": 8, "latent": 3, **sizes})).eval()


def batch_of_words(network: PaperEva, records: list[list[int]], conditions=None) -> WordBatch:
    longest = max(len(record) for record in records)
    grid = [record + [network.end] * (longest + 1 - len(record)) for record in records]
    has = np.zeros((len(records), network.sizes.conditions)) if conditions is None else conditions
    return WordBatch(
        words=torch.tensor(grid),
        lengths=torch.tensor([len(record) for record in records]),
        conditions=torch.tensor(np.asarray(has, dtype=np.float32)),
    )


@torch.no_grad()
def test_probabilities_of_all_records_add_up_to_one():
    """Two words, the unknown one and at most three visits: 3 + 9 + 27 records."""
    network = network_of(words=2, most_visits=3)
    network.experts["z"].of_record.weight.zero_()  # then every record has the same latent
    records = [list(r) for length in (1, 2, 3) for r in product(range(3), repeat=length)]
    noise = torch.randn(1, network.noise_size).expand(len(records), -1)
    found = network.bound(batch_of_words(network, records), noise=noise)
    assert float((-(found.visits + found.ends).double()).exp().sum()) == pytest.approx(1.0, abs=1e-5)


@torch.no_grad()
def test_nothing_looks_ahead_and_company_changes_nothing():
    network = network_of()
    one, other = [0, 1, 2, 3, 4], [0, 1, 2, 4, 4]
    latent = torch.randn(1, 3)

    def contexts(record):
        return network._contexts(latent, torch.tensor([[network.end, *record[:-1]]]), len(record))

    first, second = contexts(one), contexts(other)
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4:], second[:, 4:])
    noise = torch.randn(3, network.noise_size)
    together = network.bound(batch_of_words(network, [one, [2], [3, 3, 1]]), noise=noise).total
    alone = network.bound(batch_of_words(network, [[2]]), noise=noise[1:2]).total
    assert float(together[1]) == pytest.approx(float(alone[0]), rel=1e-5)


@torch.no_grad()
def test_records_are_drawn_as_the_bound_says():
    """20,000 first and second words against their probabilities, at one latent: within 5 standard errors.

    False-alarm probability with a free seed: below 1e-4 over all 40 cells; the seed is fixed.
    """
    network, count = network_of(words=4, most_visits=3), 20_000
    latent = torch.randn(1, 3).expand(count, -1)
    words = torch.stack(network.draw(latent, torch.Generator().manual_seed(1)), dim=1)
    before = torch.full((1, 1), network.end)
    first = torch.softmax(network.out(network._contexts(latent[:1], before, 1))[0, 0, :4], dim=0)
    shares = torch.bincount(words[:, 0], minlength=4) / count
    assert ((shares - first).abs() < 5 * (first * (1 - first) / count).sqrt()).all()
    word = int(first.argmax())
    given = words[words[:, 0] == word, 1]
    logits = network.out(network._contexts(latent[:1], torch.tensor([[network.end, word]]), 2))[0, 1]
    logits[network.unknown] = -torch.inf
    chances = torch.softmax(logits, dim=0)[[0, 1, 2, 3, network.end]]
    found = torch.tensor([float((given == w).float().mean()) for w in (0, 1, 2, 3, -1)])
    assert ((found - chances).abs() < 5 * (chances * (1 - chances) / len(given)).sqrt()).all()
    assert int(words.max()) < network.unknown


@torch.no_grad()
def test_a_given_length_is_kept():
    network = network_of()
    lengths = torch.tensor([1, 4, 9, 2])
    words = torch.stack(network.draw(torch.randn(4, 3), torch.Generator(), lengths=lengths), dim=1)
    assert (words >= 0).sum(dim=1).tolist() == lengths.tolist()


@torch.no_grad()
def test_the_experts_multiply():
    """Equation 7: precisions add, and means weigh by them."""
    network = network_of(conditions=3)
    batch = batch_of_words(network, [[0, 1], [2]], np.array([[1, 0, 0], [0, 1, 0]]))
    expert = network.experts["z"]
    visits = network.see(batch.words[:, :2])
    mean, variance = expert(visits, batch)
    both = {}
    for name, part in (("record", expert.of_record), ("conditions", expert.of_conditions)):
        kept = part.weight.clone(), part.bias.clone()
        part.weight.zero_()
        part.bias[:3], part.bias[3:] = 0.0, 40.0  # as good as no expert: mean 0, variance 40
        both[name] = expert(visits, batch)
        part.weight.copy_(kept[0])
        part.bias.copy_(kept[1])
    by_conditions, by_record = both["record"], both["conditions"]
    # Each of the two still holds the other's flat factor, 1/40 in precision.
    precision = 1 / by_conditions[1] + 1 / by_record[1] - 2 / 40.0001
    assert torch.allclose(1 / variance, precision, rtol=1e-3)
    weighed = by_conditions[0] / by_conditions[1] + by_record[0] / by_record[1]
    assert torch.allclose(mean / variance, weighed, atol=1e-3)


@torch.no_grad()
def test_latents_have_the_priors_mean_and_variance():
    """Equation 5 at 40,000 draws: mean and variance within 5 standard errors; fixed seed."""
    network, count = network_of(conditions=2), 40_000
    columns = network.representations.weight
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    gate = 1 / (1 + np.exp(-nodes))
    first = float((weights * gate).sum() / weights.sum())
    spread = float((weights * gate**2).sum() / weights.sum()) - first**2
    for has in ([0.0, 0.0], [1.0, 0.0], [1.0, 1.0]):
        y = torch.tensor([has])
        drawn = network.prior(y.expand(count, -1), torch.Generator().manual_seed(5))
        mean = (columns * y).sum(dim=1) * first
        variance = (columns.square() * y).sum(dim=1) * spread + TAU + GAMMA
        assert ((drawn.mean(dim=0) - mean).abs() < 5 * (variance / count).sqrt()).all()
        assert ((drawn.var(dim=0) - variance).abs() < 5 * variance * (2 / count) ** 0.5).all()


def test_theta_and_h_are_what_does_not_infer():
    names = set(network_of(conditions=2).shared_parameters())
    assert {"representations.weight", "word_in.weight", "out.weight"} <= names
    assert not any(name.startswith(("experts", "see")) for name in names)
    assert "upsample.first.weight" in names


def ward(patients: int = 60, *, seed: int = 0):
    """Patients of two conditions that decide their codes."""
    schema, levels = tiny_schema(8), ("no", "yes")
    names = ("diabetes", "asthma")
    named = [Column(name=name, kind=Kind.BINARY, categories=levels) for name in names]
    age = Column(name="age", kind=Kind.INTEGER, minimum=0, maximum=100)
    schema = replace(schema, columns=(*schema.columns, *named, age))
    rng = np.random.default_rng(seed)
    has = rng.integers(0, 2, (patients, 2))
    visits = [
        [
            sorted({*([0] if y[0] else []), *([1] if y[1] else []), int(rng.integers(2, 8))})
            for _ in range(1 + i % 3)
        ]
        for i, y in enumerate(has)
    ]
    frame = pd.DataFrame({c.name: np.array(levels, dtype=object)[has[:, i]] for i, c in enumerate(named)})
    return replace(records_of(visits, schema), statics=frame.assign(age=50))


RECORDS, UNSEEN = ward(), ward(30, seed=9)


@pytest.fixture(scope="module")
def models():
    return {
        flag: train_eva(RECORDS, QUICK, unseen=UNSEEN, is_conditional=flag, seed=1, study="s", site="north")
        for flag in (False, True)
    }


@pytest.fixture
def folder(models, tmp_path):
    save_paper(models[True], tmp_path / "model")
    return tmp_path / "model"


def where(*texts, schema):
    return parse_conditions(texts, schema)


def test_what_the_paper_does_not_know_is_not_in_its_schema(models):
    plain, conditional = models[False].schema, models[True].schema
    assert plain.names == ("code",)
    assert conditional.names == ("code", "diabetes", "asthma")
    assert plain.ignored == ("diabetes", "asthma", "age")
    assert conditional.ignored == ("age",)
    records = simulated(40)
    timed = train_eva(records, QUICK, unseen=records, seed=0, study="s", site="x")
    assert timed.schema.time is None
    assert records.schema.time in timed.schema.ignored
    assert timed.draw_records(20, seed=0).records.gaps is None


def test_the_seed_decides_model_and_records(models):
    again = train_eva(RECORDS, QUICK, unseen=UNSEEN, seed=1, study="s", site="north")
    other = train_eva(RECORDS, QUICK, unseen=UNSEEN, seed=2, study="s", site="north")
    first = models[False].draw_records(50, seed=4).records.digest
    assert again.draw_records(50, seed=4).records.digest == first
    assert other.draw_records(50, seed=4).records.digest != first
    assert again.draw_records(50, seed=5).records.digest != first
    assert models[False].study_digest == again.study_digest != other.study_digest


def test_conditions_are_met_in_every_record_and_several_at_once(models):
    model = models[True]
    conditions = where("diabetes = yes and asthma = no", schema=model.schema)
    drawn = model.draw_records(40, seed=2, conditions=conditions, visits=2)
    assert set(drawn.records.statics["diabetes"]) == {"yes"}
    assert set(drawn.records.statics["asthma"]) == {"no"}
    assert set(drawn.records.visits_per_patient) == {2}
    has = (RECORDS.statics["diabetes"] == "yes") & (RECORDS.statics["asthma"] == "no")
    assert model.share_of(conditions) == pytest.approx(has.mean())
    both = {tuple(row) for row in model.draw_records(200, seed=2).records.statics.to_numpy()}
    assert len(both) == 4


def test_what_cannot_be_drawn_is_refused_in_one_line(models):
    has_none = RECORDS.take((RECORDS.statics["asthma"] == "no").to_numpy())
    model = train_eva(has_none, QUICK, unseen=UNSEEN, is_conditional=True, seed=1, study="s", site="x")
    with pytest.raises(ConditionError, match="no training patient"):
        model.draw_records(3, seed=0, conditions=where("asthma = yes", schema=model.schema))
    for wrong, text in (({"count": 0}, "at least 1"), ({"count": 3, "visits": 99}, "not a length")):
        with pytest.raises(InputError, match=text):
            model.draw_records(**{"seed": 0, **wrong})
    with pytest.raises(SchemaError, match="not on codes"):
        model.draw_records(3, seed=0, conditions=where("code = c1", schema=models[True].schema))
    bare = records_of([[[0], [1]], [[2]]], tiny_schema(8))
    with pytest.raises(InputError, match="a condition"):
        train_eva(bare, QUICK, unseen=UNSEEN, is_conditional=True, seed=1, study="s", site="x")
    with pytest.raises(InputError, match="two patients"):
        train_eva(RECORDS.take(np.arange(1)), QUICK, unseen=UNSEEN, seed=1, study="s", site="x")


def test_training_raises_the_bound_on_records_it_never_saw():
    """From one epoch to eight, on patients whose conditions decide their codes; fixed seed."""
    train, test = ward(120), ward(60, seed=7)

    def bound(epochs):
        settings = replace(QUICK, epochs=epochs, learning_rate=0.01, posterior=0)
        return train_eva(train, settings, unseen=test, seed=0, study="s", site="x").likelihood(test)

    assert bound(8).log_likelihood > bound(1).log_likelihood + 0.3


def test_the_likelihood_is_the_mean_over_samples_and_of_this_code_list(models):
    model = models[False]
    assert len(model.networks) == 2
    assert not torch.equal(model.networks[0].out.weight, model.networks[1].out.weight)
    each = [replace(model, networks=(n,)).likelihood(UNSEEN).log_likelihood for n in model.networks]
    assert model.likelihood(UNSEEN).log_likelihood == pytest.approx(np.mean(each), rel=1e-6)
    with pytest.raises(SchemaError, match="code list"):
        model.likelihood(simulated(5))
    with pytest.raises(SchemaError, match="lack a condition"):
        models[True].likelihood(replace(UNSEEN, statics=UNSEEN.statics[["diabetes"]]))


def test_a_point_estimate_is_one_network():
    found = train_eva(RECORDS, replace(QUICK, posterior=0), unseen=UNSEEN, seed=1, study="s", site="x")
    assert len(found.networks) == 1
    short = train_eva(RECORDS, replace(QUICK, epochs=1), unseen=UNSEEN, seed=1, study="s", site="x")
    assert len(short.networks) == 1


def test_saved_read_and_saved_again_is_byte_for_byte_the_same(models, folder, tmp_path):
    back = open_published_records(folder)
    assert isinstance(back, PublishedEvaC)
    save_paper(back, tmp_path / "again")
    for name in (HEADER, WEIGHTS):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    conditions = where("asthma = yes", schema=back.schema)
    opened = open_record_model(folder)
    ours, theirs = (draw_from(m, 40, seed=3, conditions=conditions) for m in (models[True], opened))
    assert ours.records.digest == theirs.records.digest
    assert likelihood_of(opened, UNSEEN) == models[True].likelihood(UNSEEN)


def test_readers_of_tables_and_of_private_models_refuse_it(folder):
    for reader in (open_model, load_model):
        with pytest.raises(InputError, match="malformed"):
            reader(folder)


ALTERATIONS = {
    "a spend": lambda header: header.update(spend={"epsilon": 1.0}),
    "called safe": lambda header: header.update(unsafe=False),
    "trained": lambda header: header.update(encoder_provenance="trained"),
    "another generator": lambda header: header.update(generator="medvae"),
    "without conditions": lambda header: header.update(generator="eva"),
    "fewer words": lambda header: header["encoding"].update(words=3),
    "copies that are none": lambda header: header["verbatim"].update(visits=1.5),
    "no copies": lambda header: header.pop("verbatim"),
    "fewer samples": lambda header: header["hyperparameters"].update(posterior=1),
    "a width": lambda header: header["hyperparameters"].update(channels=13),
    "another schema": lambda header: header.update(schema_digest="0" * 64),
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_header_is_refused_in_one_line(folder, change):
    header = json.loads((folder / HEADER).read_text())
    change(header)
    (folder / HEADER).write_text(json.dumps(header))
    with pytest.raises(InputError, match="malformed") as caught:
        open_published_records(folder)
    assert "\n" not in str(caught.value)


DAMAGE = {
    "a word with a code that there is not": lambda a: a["visits/codes"].__setitem__(0, 99),
    "words twice": lambda a: a["visits/starts"].__setitem__(slice(1, 3), 0),
    "conditions lost": lambda a: a.update({"conditions/rows": a["conditions/rows"][:, :1].copy()}),
    "conditions of another kind": lambda a: a["conditions/rows"].__setitem__((0, 0), 2),
    "nobody has them": lambda a: a["conditions/counts"].__setitem__(0, 0),
    "an array too many": lambda a: a.update(extra=np.zeros(2)),
    "no visits": lambda a: a.pop("visits/codes"),
    "a weight lost": lambda a: a.pop("network/norm.weight"),
    "a sample's weight lost": lambda a: a.pop("samples/0/norm.weight"),
    "a sample that is not finite": lambda a: a["samples/0/out.bias"].__setitem__(0, np.nan),
    "a sample of another shape": lambda a: a.update({"samples/0/out.bias": np.zeros(2, np.float32)}),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_arrays_that_do_not_fit_are_refused_in_one_line(folder, change):
    arrays = {name: array.copy() for name, array in load((folder / WEIGHTS).read_bytes()).items()}
    change(arrays)
    data = save(arrays)
    (folder / WEIGHTS).write_bytes(data)
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps({**header, "weights_sha256": sha256_hex(data)}))
    with pytest.raises(InputError, match="malformed"):
        open_published_records(folder)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "learning_rate", "words", "channels", "posterior"])
def test_settings_out_of_range_are_refused(name):
    for value in (-1, float("nan")):
        with pytest.raises(InputError, match=name):
            EvaSettings(**{name: value})


def test_each_training_is_logged_as_unsafe(caplog):
    with caplog.at_level(logging.WARNING, logger="synthkit.unsafe"):
        train_eva(RECORDS, replace(QUICK, epochs=1), unseen=UNSEEN, seed=1, study="s", site="x")
    assert "WITHOUT differential privacy" in caplog.text


def test_conditions_are_the_columns_of_two_categories():
    assert [column.name for column in conditions_of(RECORDS.schema)] == ["diabetes", "asthma"]
