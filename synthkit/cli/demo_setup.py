"""The demo's hospitals and study: bundled real patients, one folder a hospital, one strict stranger.

Knows the two bundled data sets and public round figures about them. Everything else is made fresh at
each run: keys, signed policies, ledgers.
"""

# ruff: noqa: PLC0415

import datetime as dt
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synthkit.cli.console import Console, figure
from synthkit.cli.loading import policy_path, read_text
from synthkit.domain.study import Study, TrainingPlan

if TYPE_CHECKING:
    from synthkit.cli.federation import Coordinator
    from synthkit.data.bundled import Example
    from synthkit_client.site_folder import SiteFolder

STRICT_SITE = "Northfield"

STEPS = 7


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What differs between the two data sets."""

    data: str
    declared_sizes: dict[str, int]
    rows: int
    condition: str
    targets: tuple[str, ...]
    split: tuple[float, float, float]
    """Small hospitals keep more apart, so that the audit's statistics exist at all."""


SCENES = {
    "diabetes": Scene(
        data="diabetes",
        declared_sizes={
            "H1": 3000,
            "H2": 3500,
            "H3": 3000,
            "H4": 2500,
            "H5": 2000,
            "H6": 6000,
            "H7": 2500,
            "H8": 6500,
        },
        rows=10_000,
        condition="age >= 70 and insulin != No",
        targets=(
            "age >= 70",
            "insulin = No without diabetesMed, change, metformin, glipizide, glyburide, pioglitazone, "
            "rosiglitazone",
            "readmitted = NO",
        ),
        split=(0.7, 0.2, 0.1),
    ),
    "heart": Scene(
        data="heart",
        declared_sizes={"cleveland": 200, "hungarian": 200, "switzerland": 100, "va": 150},
        rows=1_000,
        condition="age >= 60 and sex = Male",
        targets=("disease = yes",),
        split=(0.6, 0.2, 0.2),
    ),
}
"""Declared sizes are round figures for the patients each hospital trains on (70 % of its own)."""


@dataclass(kw_only=True)
class Demo:
    """What the steps hand on to one another."""

    console: Console
    output: Path
    example: "Example"
    scene: Scene
    started: float = field(default_factory=time.monotonic)
    step: int = 0

    def next_step(self, text: str) -> None:
        """Announce the next of the seven."""
        self.step += 1
        self.console.heading(f"[{self.step}/{STEPS}] {text}  ({time.monotonic() - self.started:.0f} s)")


def make_sites(
    example: "Example", scene: Scene, root: Path, coordinator: "Coordinator"
) -> "dict[str, SiteFolder]":
    """A folder per hospital, and one for the strict stranger, which has no table to be opened."""
    from synthkit_client.enrol import NewSite, init_site

    folders = {}
    for name, table in example.sites.items():
        path = root / name
        path.mkdir(parents=True)
        shutil.copyfile(table, path / "patients.csv.gz")
        new = NewSite(
            name=name,
            table="patients.csv.gz",
            declared_size=scene.declared_sizes[name],
            policy_text=read_text(policy_path("demo")),
            split=scene.split,
        )
        folders[name] = init_site(path, new, coordinator=coordinator.trusted)
    stranger = NewSite(
        name=STRICT_SITE,
        table="patients.csv.gz",
        declared_size=1000,
        policy_text=read_text(policy_path("strict")),
    )
    folders[STRICT_SITE] = init_site(root / STRICT_SITE, stranger, coordinator=coordinator.trusted)
    return folders


def draft_study(example: "Example", plan: TrainingPlan) -> Study:
    """The study's draft, roster still to be filled."""
    from synthkit.domain.study import Site

    today = dt.datetime.now(dt.UTC).date()
    return Study(
        name=f"demo-{example.name}",
        purpose="show the whole way from hospitals' rows to one signed synthetic release",
        schema=example.schema,
        plan=plan,
        roster=(Site(name="draft", public_key="", declared_size=1),),
        expires=today + dt.timedelta(days=90),
    )


def plan_words(plan: TrainingPlan) -> dict[str, str]:
    """A plan's public figures, by what they are called."""
    prior = {"delta": figure(plan.delta)}
    if not plan.total_steps:
        words = {
            "generator": f"{plan.generator}, fitted to one noisy release of every hospital's two-way tables",
            "noise_multiplier": figure(plan.prior_noise_multiplier),
        }
        return words | prior
    return {
        "generator": f"{plan.generator}, trained by DP-SGD at each hospital",
        "rounds": f"{plan.rounds} of {plan.local_steps} steps, and one for the prior",
        "sample_rate": figure(plan.sample_rate),
        "noise_multiplier": figure(plan.noise_multiplier),
        "  for the prior": figure(plan.prior_noise_multiplier),
        "max_grad_norm": figure(plan.max_grad_norm),
    } | prior
