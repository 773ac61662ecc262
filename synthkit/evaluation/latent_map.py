"""Where a model's latent space puts records, flattened to two dimensions and coloured by condition.

Knows a model's inference network and records. Refuses models without a latent. What is sound: a real
patient's place is computed from that patient's whole record and covered by no budget, so that their map
never leaves the site; a generated record's place is a function of the model and of what it drew, so that
it costs nothing beyond the model's own claim. Rule: the axes follow from the generated records alone, so that
their map holds nothing of the real ones.

Source: EVA (Biswal et al. 2020), section 5.3 and Figure 4, which shows t-SNE of training patients; here
principal components, for distances in them mean something and no seed decides the picture.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from synthkit.data.sequences import Sequences
from synthkit.errors import SchemaError
from synthkit.evaluation.record_conditions import RecordCondition
from synthkit.generators.eva_network import EvaNetwork
from synthkit.generators.sequence_base import batch_of
from synthkit.report.sequence_figures import LatentMap, SequencePictures
from synthkit.training.sequence_artefact import SequenceModel

MOST_RECORDS, CHUNK = 1500, 32


def with_latents(
    pictures: SequencePictures,
    model: SequenceModel,
    real: Sequences,
    synthetic: Sequences,
    conditions: Sequence[RecordCondition],
    *,
    seed: int,
) -> SequencePictures:
    """The pictures with a map for each condition; as they were where the model has no latent.

    Raises:
        SchemaError: The records have another code list or other static columns than the model.
    """
    if {records.schema.digest for records in (real, synthetic)} != {model.schema.digest}:
        raise SchemaError("the records are of another schema than the model", fix="read them by the model's")
    network = model.generator
    if not isinstance(network, EvaNetwork) or network.latent < 2:
        return pictures
    some = [_some(records, seed) for records in (real, synthetic)]
    places = [latent_means(model, records) for records in some]
    axes, explained = principal_axes(places[1])
    centre = places[1].mean(axis=0)
    flat = [(side - centre) @ axes for side in places]
    maps = []
    for condition in conditions:
        has = [condition.answers(records) == 1 for records in some]
        apart = [spread_between(side, member) for side, member in zip(places, has, strict=True)]
        maps.append(
            LatentMap(
                condition=condition.label,
                generated=flat[1],
                generated_has=has[1],
                real=flat[0],
                real_has=has[0],
                apart=(apart[1], apart[0]),
            )
        )
    return replace(pictures, latents=tuple(maps), explained=explained, is_private=model.is_private)


def _some(records: Sequences, seed: int) -> Sequences:
    """A random choice that depends on these records' number alone, not on that of the others."""
    return records.take(np.random.default_rng((seed, 41)).permutation(len(records))[:MOST_RECORDS])


@torch.no_grad()
def latent_means(model: SequenceModel, records: Sequences) -> np.ndarray:
    """Mean of each record's inferred latent, float64 (records, latent), in the order given."""
    network = model.generator
    if not isinstance(network, EvaNetwork):
        raise RuntimeError("a network with a latent")
    states = model.encoding.in_order(records)
    order = np.argsort(states.steps, kind="stable")
    found = np.empty((len(states), network.latent))
    for start in range(0, len(states), CHUNK):
        some = order[start : start + CHUNK]
        batch, still = batch_of(states, network.layout, some), torch.zeros(some.size, network.noise_size)
        found[some] = network.infer_latent(batch, still).latent.double().numpy()
    return found


def principal_axes(places: np.ndarray) -> tuple[np.ndarray, float]:
    """The two directions of most spread, (dimensions, 2), and the share of the spread that they hold."""
    centred = places - places.mean(axis=0)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    axes = rows[:2].T
    # A direction and its opposite are the same axis: the largest weight decides which one is shown.
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    total = float((sizes**2).sum())
    return axes * signs, float((sizes[:2] ** 2).sum() / total) if total > 0 else 0.0


def spread_between(places: np.ndarray, has: np.ndarray) -> float:
    """Share of the spread that lies between the two groups, 0 to 1; NaN where one is empty."""
    if has.all() or not has.any():
        return float("nan")
    centre = places.mean(axis=0)
    total = float(((places - centre) ** 2).sum())
    groups = [places[has], places[~has]]
    between = sum(len(group) * float(((group.mean(axis=0) - centre) ** 2).sum()) for group in groups)
    return between / total if total > 0 else float("nan")
