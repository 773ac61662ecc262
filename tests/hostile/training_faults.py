"""Faults of the training step and loop, as a developer would make them: a line of the real code, and what
it turns into. Each names the check that must catch it.

`commit` compiles the changed source and puts it into the very function, so that every importer runs it.
A fault whose line is no longer in the source fails loudly: give it the line that took its place.
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from synthkit.domain.study import TrainingPlan
from synthkit.federation import messages
from synthkit.generators import layers
from synthkit.generators.medvae_sgd import MedVaeSgd
from synthkit.privacy import rng
from synthkit.privacy.clipping import PerPatientGradients, _Linear
from synthkit.privacy.dpsgd import DpSgdStep
from synthkit.training import loop
from synthkit.training.loop import train

REFUSED = "refused before the first step"
EVERY_CANARY = "sensitivity, rows 1"
REQUEST = "a request carries no setting"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One change of the source: `line` stands in `function` exactly once and becomes `instead`."""

    function: Callable
    line: str
    instead: str


@dataclass(frozen=True, kw_only=True)
class Fault:
    name: str
    edits: tuple[Edit, ...]
    caught_by: str
    sample_rate: float = 0.25


def commit(monkeypatch, fault: Fault) -> None:
    """Make the change, in memory, until the test is over."""
    for function in {getattr(edit.function, "__func__", edit.function) for edit in fault.edits}:
        source = textwrap.dedent(inspect.getsource(function)).removeprefix("@classmethod\n")
        for edit in fault.edits:
            if getattr(edit.function, "__func__", edit.function) is function:
                assert source.count(edit.line) == 1, f"{fault.name}: {edit.line!r} has gone"
                source = source.replace(edit.line, edit.instead)
        changed: dict = {}
        exec(compile(source, function.__code__.co_filename, "exec"), function.__globals__, changed)  # noqa: S102
        monkeypatch.setattr(function, "__code__", changed[function.__name__].__code__)


def fault(name: str, function: Callable, line: str, instead: str, caught_by: str, **fields) -> Fault:
    edit = Edit(function=function, line=line, instead=instead)
    return Fault(name=name, edits=(edit,), caught_by=caught_by, **fields)


RELEASE, CALL, SUM = DpSgdStep.release_gradient, DpSgdStep.__call__, PerPatientGradients.clipped_sum
STD = "std = self.settings.noise_multiplier * self.settings.max_grad_norm"
NOISE = "noise = torch.from_numpy(rng.normal(clipped.numel(), std=std)).to(clipped)"
DIVIDE = "parameter.grad = (clipped + noise.view_as(clipped)) / self.settings.expected_batch"
SAMPLE = "sample = rng.poisson_sample(patients, sample_rate=self.settings.sample_rate)"
COEFFICIENTS = "(max_grad_norm / (norms + 1e-6)).clamp(max=1.0)"
POISSON = "return np.flatnonzero(uniform(count) <= sample_rate)"
NORMAL = "return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]"
CLIPPED = "return self._gradients.clipped_sum(losses, self.settings.max_grad_norm)"
TAKE_STEP = "take_step(len(states), partial(_losses, generator, states, share, rng), optimizer)"
RESTORE = "restore(optimizer, generator, state.optimizer)"
EVERYBODY = "_losses(generator, states, 0.5, _model_draws(privacy, device), np.arange(len(states))).mean()"
DECK = "np.array_split(np.random.permutation(patients), round(1 / self.settings.sample_rate))"

NOISE_FAULTS = (
    fault("noise zero", RELEASE, STD, "std = 0.0", "noise"),
    fault("noise half", RELEASE, STD, f"{STD} / 2", "noise"),
    fault("noise without C", RELEASE, STD, "std = self.settings.noise_multiplier", "noise"),
    fault(
        "noise divided by the batch twice",
        RELEASE,
        DIVIDE,
        DIVIDE.replace("view_as(clipped)", "view_as(clipped) / self.settings.expected_batch"),
        "noise",
    ),
    fault("no noise on biases", RELEASE, NOISE, f"{NOISE} * (clipped.dim() > 1)", "noise in every layer"),
    fault(
        "one variate for a whole layer",
        RELEASE,
        "rng.normal(clipped.numel(), std=std)",
        "rng.normal(1, std=std).repeat(clipped.numel())",
        "noise fresh in each coordinate",
    ),
    fault(
        "noise of another shape",
        rng.normal,
        NORMAL,
        "return std * np.sqrt(12.0) * (uniform(count) - 0.5)",
        "noise is normal",
    ),
    fault(
        "noise re-seeded at each step",
        rng.normal,
        NORMAL,
        "return np.random.default_rng(count).normal(0.0, std, count)",
        "noise fresh at each step",
    ),
    fault(
        "noise reused",
        RELEASE,
        NOISE,
        f"{NOISE}; noise = self.__dict__.setdefault('kept', dict()).setdefault(parameter, noise)",
        "noise fresh at each step",
    ),
    Fault(
        name="same noise at two sites",
        edits=(
            Edit(
                function=train,
                line="generator.to(device).train()",
                instead="generator.to(device).train(); torch.manual_seed(2024)",
            ),
            Edit(
                function=RELEASE,
                line="torch.from_numpy(rng.normal(clipped.numel(), std=std))",
                instead="(std * torch.randn(clipped.numel()))",
            ),
        ),
        caught_by="noise of its own at each site",
    ),
    Fault(
        name="noise per physical batch",
        edits=(
            Edit(
                function=DpSgdStep._clipped_sum,
                line=CLIPPED,
                instead="std = self.settings.noise_multiplier * self.settings.max_grad_norm\n"
                "    sums = self._gradients.clipped_sum(losses, self.settings.max_grad_norm)\n"
                "    noise = [torch.from_numpy(rng.normal(s.numel(), std=std)).to(s) for s in sums]\n"
                "    return [s + n.view_as(s) for s, n in zip(sums, noise)]",
            ),
            Edit(function=RELEASE, line=STD, instead="std = 0.0"),
        ),
        caught_by="noise once a step",
    ),
    fault(
        "divided by the real batch",
        RELEASE,
        "/ self.settings.expected_batch",
        "/ max(1, sample.size)",
        "divisor blind to the batch",
    ),
)

CLIPPING_FAULTS = (
    fault("no clipping", SUM, COEFFICIENTS, COEFFICIENTS.replace("max=", "min="), EVERY_CANARY),
    fault(
        "clipping after averaging",
        DpSgdStep._clipped_sum,
        CLIPPED,
        "sums = torch.autograd.grad(losses.mean(), self.parameters)\n"
        "    norm = torch.stack([s.norm() for s in sums]).norm()\n"
        "    factor = (self.settings.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)\n"
        "    return [s * len(chunk) * factor for s in sums]",
        "clipped one by one",
    ),
    fault(
        "the batch clipped as one unit",
        DpSgdStep._clipped_sum,
        CLIPPED,
        "sums = torch.autograd.grad(losses.sum(), self.parameters)\n"
        "    norm = torch.stack([s.norm() for s in sums]).norm()\n"
        "    factor = (self.settings.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)\n"
        "    return [s * factor for s in sums]",
        EVERY_CANARY,
    ),
    fault(
        "C for each layer",
        SUM,
        "part.weighted_sum(coefficients,",
        "part.weighted_sum((max_grad_norm / (part.squared_norms().sqrt() + 1e-6)).clamp(max=1.0),",
        EVERY_CANARY,
    ),
    fault("the mean norm clips all", SUM, "(norms + 1e-6)", "(norms.mean() + 1e-6)", "clipped one by one"),
    fault(
        "rows measured instead of patients",
        _Linear.squared_norms,
        "return torch.maximum(square, (CANCELLATION * own.sqrt().sum(dim=1)).square())",
        "return own.sum(dim=1)",
        "sensitivity, rows 2",
    ),
    fault("biases not measured", _Linear._squared, "self._constant() + ", "", "sensitivity, rows 1"),
)

SAMPLING_FAULTS = (
    fault(
        "shuffled batches accounted as Poisson",
        CALL,
        SAMPLE,
        f"self.deck = getattr(self, 'deck', []) or {DECK}; sample = np.sort(self.deck.pop())",
        "patients drawn alike",
    ),
    fault(
        "fixed batches",
        CALL,
        SAMPLE,
        f"self.deck = getattr(self, 'deck', []) or {DECK}; self.deck.append(self.deck.pop(0)); "
        "sample = np.sort(self.deck[0])",
        "drawn afresh at each step",
    ),
    fault(
        "batches of fixed size",
        rng.poisson_sample,
        POISSON,
        "return np.sort(np.argsort(uniform(count))[: round(sample_rate * count)])",
        "batch sizes vary",
    ),
    fault(
        "drawn with replacement",
        rng.poisson_sample,
        POISSON,
        "return np.sort((uniform(round(sample_rate * count)) * (count - 1)).astype(int))",
        "drawn at most once a step",
    ),
    fault(
        "a batch used for two steps",
        CALL,
        SAMPLE,
        f"{SAMPLE}; self.last, sample = (None, self.last) if getattr(self, 'last', None) is not None "
        "else (sample, sample)",
        "drawn afresh at each step",
    ),
    fault(
        "rate from B/N with a ragged last batch",
        rng.poisson_sample,
        POISSON,
        "return np.flatnonzero(uniform(count) <= 1 / np.ceil(1 / sample_rate))",
        "sampling rate",
        sample_rate=0.3,
    ),
    fault(
        "some patients drawn more often",
        rng.poisson_sample,
        POISSON,
        "return np.flatnonzero(uniform(count) <= sample_rate * np.linspace(0.5, 1.5, count))",
        "patients drawn alike",
    ),
    fault(
        "empty batches skipped",
        CALL,
        "self.release_gradient(sample, loss_per_patient)",
        "if not sample.size:\n        return\n    self.release_gradient(sample, loss_per_patient)",
        "empty batches kept",
    ),
    fault(
        "empty batches drawn again",
        CALL,
        SAMPLE,
        f"{SAMPLE}\n    while not sample.size:\n        {SAMPLE}",
        "empty batches kept",
    ),
    fault(
        "k rows a patient as k units",
        train,
        "generator.to(device).train()",
        "generator.to(device).train(); states = PatientStates.one_row_each(states.states)",
        "a unit is a patient",
    ),
)

LOOP_FAULTS = (
    fault(
        "a step for each physical batch",
        CALL,
        "self.release_gradient(sample, loss_per_patient)\n    optimizer.step()",
        "for start in range(0, max(1, sample.size), self.settings.physical_batch):\n"
        "        chunk = sample[start : start + self.settings.physical_batch]\n"
        "        self.release_gradient(chunk, loss_per_patient)\n"
        "        optimizer.step()",
        "one release a step",
    ),
    fault(
        "more steps than accounted",
        train,
        "range(1, steps + 1)",
        "range(1, steps + 2)",
        "releases as accounted",
    ),
    fault(
        "accounted by epochs",
        TrainingPlan._steps,
        "steps=steps)",
        "steps=max(1, round(steps * self.sample_rate)))",
        "releases as accounted",
    ),
    fault(
        "early stop on private losses",
        train,
        TAKE_STEP,
        f"{TAKE_STEP}\n        if done > 3 and ({EVERYBODY} < 1e6):\n            break",
        "steps as told",
    ),
    fault(
        "optimiser state of a non-private phase",
        train,
        RESTORE,
        f"{RESTORE}; {EVERYBODY}.backward(); optimizer.step(); optimizer.zero_grad()",
        "starts from public state",
    ),
    fault(
        "a last touch without noise",
        train,
        "take_step.close()",
        f"take_step.close(); {EVERYBODY}.backward(); trained[0].data -= 1e-3 * trained[0].grad",
        "only releases move weights",
    ),
    fault(
        "divisor from the number of patients",
        train,
        "expected_batch=plan.sample_rate * declared_size",
        "expected_batch=plan.sample_rate * len(states)",
        "settings are the study's",
    ),
    fault(
        "the loop lowers the noise",
        train,
        "noise_multiplier=plan.noise_multiplier",
        "noise_multiplier=min(plan.noise_multiplier, 0.8)",
        "settings are the study's",
    ),
    fault(
        "a request may carry sigma or C",
        messages._check_fields,
        "set(scalars) != set(expected)",
        "not set(scalars) >= set(expected)",
        REQUEST,
    ),
)

GENERATOR_FAULTS = (
    fault(
        "BatchNorm in the generator",
        layers.perceptron,
        "return nn.Sequential(",
        "layers.insert(1, nn.BatchNorm1d(widths[1])); return nn.Sequential(",
        REFUSED,
    ),
    fault(
        "inputs standardised over the batch",
        MedVaeSgd._encode,
        "hot = one_hot(states, self.layout)",
        "hot = one_hot(states, self.layout); hot = hot - hot.mean(dim=(0, 1))",
        "patients do not mix",
    ),
    fault(
        "a contrast between patients",
        MedVaeSgd._encode,
        "correction, log_std = self.encoder(hot).chunk(2, dim=-1)",
        "correction, log_std = self.encoder(hot).chunk(2, dim=-1)\n"
        "    correction = correction - correction.mean(dim=0)",
        "patients do not mix",
    ),
    Fault(
        name="losses weighed by the batch",
        edits=(
            Edit(
                function=loop._losses,
                line="return generator.loss_per_patient(",
                instead="found = generator.loss_per_patient(",
            ),
            Edit(
                function=loop._losses,
                line="noise=noise,\n    )",
                instead="noise=noise,\n    )\n    return found / found.mean()",
            ),
        ),
        caught_by="patients do not mix",
    ),
)

FAULTS = (*NOISE_FAULTS, *CLIPPING_FAULTS, *SAMPLING_FAULTS, *LOOP_FAULTS, *GENERATOR_FAULTS)
