"""Progress of a study, and the folder that it resumes from.

Knows the averaged weights of the last rounds and the summaries of all. Rules kept here: a round's
weights are on disk before the state names them; the state is replaced in one step; a checkpoint of
another study, or begun from other initial weights, is refused instead of continued.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import canonical_json
from synthkit.errors import InputError
from synthkit.federation.messages import Weights, digest_weights
from synthkit_server.result import RoundSummary
from synthkit_server.storage import read_weights, write_atomically, write_weights

STATE = "state.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Progress:
    """A study after some rounds. `recent` holds the newest averages, newest last."""

    rounds: tuple[RoundSummary, ...] = ()
    recent: tuple[Weights, ...] = ()

    def after(self, summary: RoundSummary, weights: Weights, *, keep: int) -> "Progress":
        """Progress with one more round, of whose weights the last `keep` are kept."""
        return Progress(rounds=(*self.rounds, summary), recent=(*self.recent, weights)[-keep:])


class Checkpoint:
    """The folder of one study's progress.

    Args:
        directory: Made when the first round is saved.
        study_digest: The study this progress belongs to.
        initial_digest: Digest of the weights the first round started from.
        average_last: How many rounds' weights are kept: what a resumed study has to average over.
    """

    def __init__(self, directory: Path, *, study_digest: str, initial_digest: str, average_last: int) -> None:
        self._directory = directory
        self._identity = {
            "format": 1,
            "study_digest": study_digest,
            "initial_digest": initial_digest,
            "average_last": average_last,
        }

    def save(self, progress: Progress) -> None:
        """Make this progress the one to resume from."""
        newest = progress.rounds[-1].server_round
        write_weights(self._weights_file(newest), progress.recent[-1])
        kept = range(newest - len(progress.recent) + 1, newest + 1)
        state = {
            **self._identity,
            "rounds": [summary.to_json() for summary in progress.rounds],
            "recent": list(kept),
        }
        write_atomically(self._directory / STATE, canonical_json(state))
        for file in self._directory.glob("round-*.safetensors"):
            if file not in {self._weights_file(number) for number in kept}:
                file.unlink()

    def load(self) -> Progress:
        """The saved progress, or the beginning if nothing was saved.

        Raises:
            InputError: The folder belongs to another study or start, or is damaged.
        """
        path = self._directory / STATE
        if not path.exists():
            return Progress()
        try:
            state = json.loads(path.read_bytes())
            identity = {name: state[name] for name in self._identity}
            rounds = tuple(RoundSummary.from_json(entry) for entry in state["rounds"])
            recent = tuple(self._checked_weights(rounds[number - 1]) for number in state["recent"])
        except (ValueError, KeyError, TypeError, IndexError):
            raise InputError("the checkpoint is damaged", where=STATE, fix="use a new folder") from None
        if identity != self._identity:
            raise InputError(
                "the checkpoint is of another study or start", where=STATE, fix="use a new folder"
            )
        return Progress(rounds=rounds, recent=recent)

    def _checked_weights(self, summary: RoundSummary) -> Weights:
        weights = read_weights(self._weights_file(summary.server_round))
        if digest_weights(weights) != summary.weights_digest:
            raise InputError("weights differ from the recorded ones", where=STATE, fix="use a new folder")
        return weights

    def _weights_file(self, server_round: int) -> Path:
        return self._directory / f"round-{server_round:04d}.safetensors"
