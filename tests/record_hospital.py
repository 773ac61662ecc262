"""Sites with records of visits for federation tests: folders, keys, signed policies, ledgers, a study."""

import datetime as dt
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from hospital import FAR, TODAY, policy_text

from synthkit.cli.federation_records import initial_record_weights
from synthkit.data.sequence_encoding import fit_sequence_encoding
from synthkit.data.sequence_writing import write_sequences
from synthkit.data.sequences import PatientSequences, SyntheticSequences
from synthkit.data.simulator.process import standard_process
from synthkit.data.simulator.sampling import simulate
from synthkit.domain.study import Site, Study, TrainingPlan
from synthkit.federation.bought_sum import BoughtSum, taken_apart
from synthkit.federation.messages import TrainRequest
from synthkit.release.signing import SigningKey, TrustedKey, generate_key, read_key, seal_document
from synthkit.training.sequence_artefact import new_sequence_generator
from synthkit_client.agent import SiteAgent
from synthkit_client.enrol import OFFICER_KEY, NewSite, bring_study, init_site, officer_name
from synthkit_client.guard import approve_study
from synthkit_client.site_folder import SiteFolder

PROCESS = standard_process(visits_mean=3, most_visits=6)
SIZES = {"north": 120, "south": 80, "west": 100}
SMALL = {"channels": 8, "hidden": 8, "latent": 3, "layers": 2, "most_visits": 6, "most_codes": 20, "dated": 1}
PLAN = TrainingPlan(
    generator="eva",
    rounds=2,
    local_steps=2,
    sample_rate=0.2,
    noise_multiplier=4.0,
    prior_noise_multiplier=8.0,
    max_grad_norm=30.0,
    delta=1e-5,
    learning_rate=0.003,
    hyperparameters=SMALL,
    prior_first=True,
)
POLICY = policy_text(allowed_generators='["eva"]')


def records_of(patients: int, *, seed: int) -> SyntheticSequences:
    return simulate(PROCESS, patients, seed=seed)


@cache
def _others() -> SyntheticSequences:
    return records_of(200, seed=99)


def shares_of_others(study: Study) -> np.ndarray:
    """The sum of the shares of patients of no site, without noise."""
    plan = study.plan
    generator = new_sequence_generator(plan.generator, study.schema, plan.hyperparameters, seed=0)
    others = PatientSequences(**vars(_others()))
    states = fit_sequence_encoding(study.schema, generator.hyperparameters).encode(others)
    return generator.statistics(states).sum(dim=0).numpy()


@dataclass
class Region:
    """Sites by name, a study, and the coordinator's key."""

    study: Study
    folders: dict[str, SiteFolder]
    coordinator: SigningKey

    def bring(self, study: Study, names: tuple[str, ...] | None = None) -> Study:
        envelope = seal_document(study.to_json(), "study", self.coordinator, "coordinator")
        for name in names or tuple(self.folders):
            bring_study(self.folders[name], envelope)
        return study

    def approve(self, name: str, study: Study, today: dt.date = TODAY) -> None:
        folder = self.folders[name]
        approve_study(folder, study, officer_name(name), read_key(folder.path / OFFICER_KEY), today=today)

    def ready(self, study: Study | None = None) -> "Region":
        study = self.bring(study or self.study)
        for name in self.folders:
            self.approve(name, study)
        return Region(study=study, folders=self.folders, coordinator=self.coordinator)

    def agent(self, name: str) -> SiteAgent:
        return SiteAgent.open(self.folders[name].path)

    def request(self, server_round: int = 1, *, study: Study | None = None) -> TrainRequest:
        """From fresh weights; from the second round on with the sum that 200 other patients would make."""
        study = study or self.study
        weights = initial_record_weights(study)
        if server_round > 1:
            alone, _ = taken_apart(weights, where="test")
            noise = study.plan.prior_noise_multiplier
            total = shares_of_others(study)
            weights = BoughtSum.of_noise(total, noise_multiplier=noise).beside(alone)
        return TrainRequest(study_digest=study.digest, server_round=server_round, weights=weights)

    def with_plan(self, **changes) -> Study:
        return replace(self.study, plan=replace(self.study.plan, **changes))


def found_region(
    root: Path,
    *,
    policies: dict[str, str] | None = None,
    records: dict[str, SyntheticSequences] | None = None,
    sizes: dict[str, int] | None = None,
    split: tuple[float, float, float] = (0.7, 0.2, 0.1),
) -> Region:
    """Sites with half as many patients again as they declare; no study brought yet."""
    sizes = sizes or SIZES
    coordinator = generate_key()
    trusted = TrustedKey(name="coordinator", role="coordinator", public_key=coordinator.public_key_hex)
    folders = {}
    for place, (name, size) in enumerate(sizes.items()):
        path = root / name
        path.mkdir(parents=True)
        made = (records or {}).get(name) or records_of(size * 3 // 2, seed=10 + place)
        write_sequences(made, path / "records.csv", patients=path / "patients.csv")
        new = NewSite(
            name=name,
            table="records.csv",
            patients="patients.csv",
            declared_size=size,
            policy_text=(policies or {}).get(name, POLICY),
            split=split,
            split_seed=3,
        )
        folders[name] = init_site(path, new, coordinator=trusted)
    study = Study(
        name="ward-trial",
        purpose="a test",
        schema=PROCESS.schema,
        plan=PLAN,
        roster=tuple(
            Site(name=name, public_key=folder.key.public_key_hex, declared_size=sizes[name])
            for name, folder in folders.items()
        ),
        expires=FAR,
    )
    return Region(study=study, folders=folders, coordinator=coordinator)


def changed(before, after) -> set[str]:
    """Names of the arrays that differ."""
    return {name for name in before if not np.array_equal(before[name], after[name])}
