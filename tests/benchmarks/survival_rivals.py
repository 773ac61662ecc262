"""What makes extra survival rows in the benchmark: SMOTE, VAE, MICE and forms of MCM.

Each is fitted to the training rows of a fold and nothing else, and then asked for rows of everyone and for
rows of a stratum. SMOTE alone decides itself how many: it levels two classes.
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
from bench_quality import trained
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - scikit-learn's own switch
from sklearn.impute import IterativeImputer

from synthkit.data.paper_boxcox import BoxCoxEncoding, fit_boxcox, masks
from synthkit.data.table import PatientTable
from synthkit.evaluation.survival_task import Stratum
from synthkit.training.artefact import Model
from synthkit.training.paper import PaperModel
from synthkit.training.paper_mcm import McmSettings, train_mcm
from synthkit.training.paper_medvae import MedVaeSettings, train_medvae
from synthkit.training.paper_stratum import stratum
from synthkit.training.planning import (
    effort_for,
    effort_without_privacy,
    hyperparameters_without_privacy,
    plan_for,
)
from synthkit.training.single_site import Job, train_unsafe
from synthkit.training.synthesis import synthesize

NEIGHBOURS = 5
"""SMOTE's k, as published."""

BOUGHT, STEPPED = "mcm", "mcm-sgd"
"""MCM of any order: on bought tables, which is the private form, and by steps, the form without privacy."""

DELTA = 1e-5


M = TypeVar("M", Model, PaperModel)


class Maker(Protocol):
    """What a method is once it is fitted."""

    def rows(self, count: int, *, seed: int) -> pd.DataFrame:
        """Rows of everyone."""
        ...

    def stratum(self, asked: Stratum, count: int, *, seed: int) -> pd.DataFrame:
        """Rows that all belong to the stratum."""
        ...


@dataclass(frozen=True, kw_only=True)
class Drawn(Generic[M]):
    """Any of the house's models; `everyone` makes rows of everyone, where that is another one."""

    model: M
    everyone: PaperModel | None = None

    def rows(self, count: int, *, seed: int) -> pd.DataFrame:
        """See `Maker`."""
        return synthesize(self.everyone or self.model, count, seed=seed).table.frame

    def stratum(self, asked: Stratum, count: int, *, seed: int) -> pd.DataFrame:
        """See `Maker`."""
        return synthesize(self.model, count, seed=seed, conditions=asked.conditions).table.frame


@dataclass(frozen=True, kw_only=True)
class Mice:
    """Real rows masked and imputed; ten rounds of Bayesian ridge regressions, rounded to the schema's grid.

    Source: van Buuren and Groothuis-Oudshoorn, J Stat Softw 45 (2011), as scikit-learn has it; the share
    that is masked is the MCM paper's.
    """

    table: PatientTable
    encoding: BoxCoxEncoding
    imputer: IterativeImputer
    mask_share: float

    def rows(self, count: int, *, seed: int) -> pd.DataFrame:
        """See `Maker`."""
        rng = np.random.default_rng(seed)
        values = self.encoding.code(self.table.frame)
        given = values[rng.choice(len(values), size=count, replace=count > len(values))]
        hidden = masks(np.full(count, int(given.shape[1] * self.mask_share)), given.shape[1], rng)
        given[hidden] = np.nan
        return self._imputed(given)

    def stratum(self, asked: Stratum, count: int, *, seed: int) -> pd.DataFrame:
        """See `Maker`."""
        given = stratum(self.encoding, count, asked.conditions, np.random.default_rng(seed))
        return self._imputed(given)

    def _imputed(self, given: np.ndarray) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self.imputer.transform(given)
        for place, column in enumerate(self.encoding.columns):
            fitted = column.fitted
            if fitted.column.is_numeric:
                made[:, place] = fitted.rounded(made[:, place].clip(fitted.minimum, fitted.maximum))
            else:
                made[:, place] = np.rint(made[:, place]).clip(0, len(fitted.levels) - 1)
        return self.encoding.table(np.where(np.isnan(given), made, given)).frame


@dataclass(frozen=True, kw_only=True)
class Smote:
    """The smaller class levelled: a point between a patient and one of the five nearest of the same class.

    Source: Chawla et al., JAIR 16 (2002), section 4.2 (the point) and 6.1 (SMOTE-NC: a category is what most
    of the neighbours have).
    """

    table: PatientTable
    encoding: BoxCoxEncoding
    classes: str
    """The column whose two levels are the classes for rows of everyone."""

    def rows(self, count: int, *, seed: int) -> pd.DataFrame:  # noqa: ARG002 - the classes decide
        """See `Maker`."""
        frame = self.table.frame
        return self._levelled((frame[self.classes] == frame[self.classes].mode()[0]).to_numpy(), seed)

    def stratum(self, asked: Stratum, count: int, *, seed: int) -> pd.DataFrame:  # noqa: ARG002
        """See `Maker`; of a stratum that is the larger class, the rows are of the others."""
        return self._levelled(asked.rows(self.table.frame, self.table.schema), seed)

    def _levelled(self, first: np.ndarray, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        smaller = first if first.sum() <= len(first) / 2 else ~first
        values = self.encoding.code(self.table.frame)[smaller]
        wanted = len(first) - 2 * int(smaller.sum())
        scaled = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-12)
        base = rng.integers(len(values), size=wanted)
        distances = ((scaled[base][:, None] - scaled[None]) ** 2).sum(axis=2)
        distances[np.arange(wanted), base] = np.inf
        near = distances.argsort(axis=1)[:, :NEIGHBOURS]  # (wanted, neighbours)
        other = near[np.arange(wanted), rng.integers(near.shape[1], size=wanted)]
        made = values[base] + rng.random((wanted, 1)) * (values[other] - values[base])
        for place, column in enumerate(self.encoding.columns):
            if column.fitted.column.is_numeric:
                made[:, place] = column.fitted.rounded(made[:, place])
            else:
                votes = [np.bincount(values[row, place].astype(int)).argmax() for row in near]
                made[:, place] = np.array(votes, dtype=float)
        return self.encoding.table(made).frame


@dataclass(frozen=True, kw_only=True)
class Everyone:
    """Real patients in the place of made ones: what a generator that knows everything could add at most."""

    table: PatientTable

    def rows(self, count: int, *, seed: int) -> pd.DataFrame:
        """See `Maker`; everybody equally often, up to one."""
        return _repeated(self.table.frame, count, seed)

    def stratum(self, asked: Stratum, count: int, *, seed: int) -> pd.DataFrame:
        """See `Maker`."""
        return _repeated(self.table.frame[asked.rows(self.table.frame, self.table.schema)], count, seed)


def _repeated(frame: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    return frame.iloc[np.resize(np.random.default_rng(seed).permutation(len(frame)), count)]


def fit_mice(table: PatientTable, seed: int, *, mask_share: float = 0.5) -> Mice:
    """Fit the imputer to a fold's training rows."""
    encoding = fit_boxcox(table)
    imputer = IterativeImputer(max_iter=10, random_state=seed, keep_empty_features=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        imputer.fit(_with_holes(encoding.code(table.frame), seed))
    return Mice(table=table, encoding=encoding, imputer=imputer, mask_share=mask_share)


def _with_holes(values: np.ndarray, seed: int) -> np.ndarray:
    """A tenth of the cells emptied: the library keeps a regression only for a column it saw empty."""
    holes = np.random.default_rng(seed).random(values.shape) < 0.1
    return np.where(holes, np.nan, values)


def fit_smote(table: PatientTable, seed: int, *, classes: str) -> Smote:
    """Nothing to fit but the coding."""
    return Smote(table=table, encoding=fit_boxcox(table), classes=classes)


def fit_vae(table: PatientTable, seed: int) -> Drawn[PaperModel]:
    """Med-VAE as its authors' notebook trains it: a variational autoencoder without a KL gradient."""
    settings = MedVaeSettings(kl_weight=0.0)
    return Drawn(model=train_medvae(table, settings, seed=seed, study="benchmark", site="benchmark"))


def fit_mcm(table: PatientTable, seed: int, *, mask_share: float = 0.5) -> Drawn[PaperModel]:
    """MCM as published."""
    model = train_mcm(table, McmSettings(), seed=seed, study="benchmark", site="benchmark")
    return Drawn(model=model, everyone=model.with_mask_share(mask_share))


def fit_unsafe_mcm(table: PatientTable, seed: int) -> Drawn[Model]:
    """MCM of any order by steps, without privacy, as `synthkit train` would for the size."""
    size = len(table)
    effort = effort_without_privacy(size, STEPPED)
    usual = hyperparameters_without_privacy(STEPPED, size)
    plan = plan_for(STEPPED, effort, target_epsilon=1.0, delta=DELTA, hyperparameters=usual)
    job = Job(study="benchmark", site="benchmark", declared_size=size, min_patients=2, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        return Drawn(model=train_unsafe(table, plan, job, folder=Path(folder) / "model"))


def fit_private_mcm(table: PatientTable, seed: int, *, epsilon: float) -> Drawn[Model]:
    """MCM on bought tables, the fold's training rows as one hospital."""
    return Drawn(model=private_mcm([table], epsilon, seed))


def private_mcm(sites: Sequence[PatientTable], epsilon: float, seed: int) -> Model:
    """MCM on the averaged tables of several hospitals, each with the full noise of this budget."""
    effort = effort_for(sum(len(site) for site in sites), sites=len(sites))
    plan = plan_for(BOUGHT, effort, target_epsilon=epsilon, delta=DELTA)
    return trained(sites, plan, f"{epsilon:g}", seed)


Fit = Callable[[PatientTable, int], Maker]
"""What fits a method to training rows, with a seed."""
