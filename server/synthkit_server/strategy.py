"""The round loop: ask every site, wait, check, average, record.

Knows the study, the Grid and which node is which site. Trusts neither replies nor their number. Rules
kept here, none of which Flower's own strategies keep:

1. A round has a deadline and a quorum; below the quorum the study stops and names the sites and codes.
2. A reply counts for the site whose node it came from, and only after `validation.check_reply`.
3. A site weighs what the signed roster declares, whatever its reply says.
4. A site's ledger has to move on from round to round (`mirror`).
5. Sites are summed in roster order, so the same replies give the same bytes.
6. Every finished round is on disk before the next one is asked for.
7. What sites buy before the first step is added up, not averaged: all start from all patients' sum.
8. Each request carries the coordinator's signed statement on the last reply accepted from that site, and
   after the last round one more message does, so that the site can prove where its ledger stood. What a
   site makes of that last message changes nothing in the study's result.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid

from synthkit.domain.study import Study
from synthkit.errors import InputError, PeerError, SynthkitError
from synthkit.federation.messages import Closing, TrainReply, TrainRequest, Weights, digest_weights
from synthkit.federation.refusal import RefusalCode
from synthkit_server.aggregation import plain_average, pooled, weighted_average
from synthkit_server.checkpoint import Checkpoint, Progress
from synthkit_server.countersign import Countersigner
from synthkit_server.mirror import BudgetMirror
from synthkit_server.result import FederationResult, LedgerMark, Refusal, RoundSummary
from synthkit_server.validation import check_bought, check_reply, check_start, sane_update_norm
from synthkit_server.wire import (
    address,
    address_closing,
    pack_closing,
    pack_request,
    unpack_receipt,
    unpack_reply,
)

log = logging.getLogger("synthkit.coordinator")

MIRROR = "mirror.jsonl"

CLOSING_S = 60.0
"""Seconds that sites have to take note of the last statement; the study does not depend on it."""

OnRound = Callable[[RoundSummary], None]


@dataclass(frozen=True, kw_only=True)
class RoundRules:
    """How the coordinator conducts rounds; nothing here changes what a site spends.

    `min_sites` is the quorum (None: the whole roster). The prior is fitted to, and the study ends with,
    the mean of the last `average_last` training rounds' averages; where the prior comes first, the study
    ends with that mean. `max_update_norm` overrides the bound derived from the plan.
    """

    deadline_s: float = 3600.0
    min_sites: int | None = None
    average_last: int = 1
    max_update_norm: float | None = None
    poll_s: float = 0.25

    def __post_init__(self) -> None:
        if not self.deadline_s > 0 or not self.poll_s > 0:
            raise InputError("deadline and polling interval must be positive", fix="give seconds")
        if self.average_last < 1:
            raise InputError("average_last must be at least 1")
        if self.min_sites is not None and self.min_sites < 1:
            raise InputError("min_sites must be at least 1")

    def quorum(self, study: Study) -> int:
        """How many sites have to answer a round.

        Raises:
            InputError: More than the roster has.
        """
        quorum = len(study.roster) if self.min_sites is None else self.min_sites
        if quorum > len(study.roster):
            raise InputError("min_sites exceeds the roster", where=f"study {study.name}")
        return quorum


def run_rounds(
    grid: Grid,
    study: Study,
    initial: Weights,
    *,
    sites: Mapping[str, int],
    rules: RoundRules | None = None,
    checkpoint: Path | None = None,
    on_round: OnRound | None = None,
    countersigner: Countersigner | None = None,
) -> FederationResult:
    """Run a study's rounds, from the beginning or from where its checkpoint stands.

    Args:
        grid: Connected to the sites' nodes.
        study: Approved and verified by the caller.
        initial: float32 arrays that the first round starts from.
        sites: Node id by site name, as the SuperLink authenticated them. A roster site without a node
            counts as offline.
        rules: Deadline, quorum and averaging.
        checkpoint: Folder for progress and `mirror.jsonl`; None keeps both in memory.
        on_round: Told of each finished round.
        countersigner: States to each site what was accepted of its ledger; None: nobody does, and a
            site that loses its ledger has no signed witness.

    Raises:
        InputError: The weights, the rules or the checkpoint do not fit the study.
        PeerError: A round had fewer usable replies than the quorum.
    """
    rules = rules or RoundRules()
    check_start(initial)
    rules.quorum(study)
    store = _open_checkpoint(checkpoint, study, initial, rules)
    progress = store.load() if store else Progress()
    mirror = BudgetMirror(checkpoint / MIRROR if checkpoint else None)
    conductor = _Conductor(
        grid=grid, study=study, sites=sites, rules=rules, mirror=mirror, countersigner=countersigner
    )
    for server_round in range(len(progress.rounds) + 1, study.plan.server_rounds + 1):
        base = _base(study, server_round, progress, initial)
        summary, weights = conductor.round(server_round, base)
        progress = progress.after(summary, weights, keep=rules.average_last)
        if store:
            store.save(progress)
        if checkpoint and countersigner:
            countersigner.keep(mirror, checkpoint)
        if on_round:
            on_round(summary)
    conductor.close()
    return FederationResult(
        study_digest=study.digest,
        weights=_final(study, progress),
        rounds=progress.rounds,
        ledgers=_ledger_marks(study, mirror),
    )


def _open_checkpoint(
    directory: Path | None, study: Study, initial: Weights, rules: RoundRules
) -> Checkpoint | None:
    if directory is None:
        return None
    return Checkpoint(
        directory,
        study_digest=study.digest,
        initial_digest=digest_weights(initial),
        average_last=rules.average_last,
    )


def _base(study: Study, server_round: int, progress: Progress, initial: Weights) -> Weights:
    """What a round starts from: the round before, and for the prior the mean of the last ones.

    The prior describes the encoder's codes, so it has to be fitted to the very weights that are kept.
    """
    if not progress.recent:
        return initial
    if study.plan.is_prior_round(server_round):
        return plain_average(progress.recent)
    return progress.recent[-1]


def _final(study: Study, progress: Progress) -> Weights:
    """What a study ends with: its last round, or the mean of the last ones where the prior came first."""
    if not study.plan.prior_first:
        return progress.recent[-1]
    return plain_average(progress.recent[-study.plan.rounds :])


def _ledger_marks(study: Study, mirror: BudgetMirror) -> dict[str, LedgerMark]:
    """Where each site's ledger stood after this study's last accepted reply."""
    entries = ((site.name, mirror.last(site.name)) for site in study.roster)
    return {
        name: LedgerMark(counter=entry.ledger_counter, head=entry.ledger_head)
        for name, entry in entries
        if entry is not None and entry.study_digest == study.digest
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Conductor:
    """One study on one Grid."""

    grid: Grid
    study: Study
    sites: Mapping[str, int]
    rules: RoundRules
    mirror: BudgetMirror
    countersigner: Countersigner | None

    def round(self, server_round: int, base: Weights) -> tuple[RoundSummary, Weights]:
        """One round from `base` to the sites' average.

        Raises:
            PeerError: Below the quorum.
        """
        request = TrainRequest(study_digest=self.study.digest, server_round=server_round, weights=base)
        messages = self._exchange(request)
        outcomes = [self._outcome(site.name, messages.get(site.name), request) for site in self.study.roster]
        replies = [outcome for outcome in outcomes if isinstance(outcome, TrainReply)]
        refusals = tuple(outcome for outcome in outcomes if isinstance(outcome, Refusal))
        for refusal in refusals:
            log.warning("round %d without %s", server_round, refusal)
        if len(replies) < self.rules.quorum(self.study):
            raise PeerError(
                f"round {server_round} is below its quorum of {self.rules.quorum(self.study)} sites",
                where=f"study {self.study.name}",
                fix="; ".join(str(refusal) for refusal in refusals),
            )
        weights = self._combined(replies, base, server_round)
        summary = RoundSummary(
            server_round=server_round,
            sites=tuple(reply.site for reply in replies),
            refusals=refusals,
            weights_digest=digest_weights(weights),
        )
        return summary, weights

    def _combined(self, replies: Sequence[TrainReply], base: Weights, server_round: int) -> Weights:
        """The sum of what was bought before the first step, or the average of what was trained."""
        arrays, plan = [reply.weights for reply in replies], self.study.plan
        if plan.prior_first and plan.is_prior_round(server_round):
            return pooled(arrays, base)
        sizes = [float(self.study.site(reply.site).declared_size) for reply in replies]
        return weighted_average(arrays, sizes)

    def close(self) -> None:
        """Hand every site that took part the statement on its last reply, once; a failure is logged."""
        if self.countersigner is None:
            return
        limit_s = min(self.rules.deadline_s, CLOSING_S)
        marks = _ledger_marks(self.study, self.mirror)
        outgoing = {
            name: address_closing(
                pack_closing(Closing(witness=self._witness(name))), node_id=self.sites[name], ttl_s=limit_s
            )
            for name in marks
            if name in self.sites
        }
        if not outgoing:
            return
        for name, received in self._collect(outgoing, limit_s).items():
            code = self._receipt(name, received)
            if code is not None:
                log.warning("%s did not note the last witness statement: %s", name, code.value)

    def _receipt(self, name: str, received: Message | RefusalCode) -> RefusalCode | None:
        if isinstance(received, RefusalCode):
            return received
        try:
            self._check_sender(name, received)
            return unpack_receipt(received)
        except SynthkitError:
            return RefusalCode.INVALID

    def _witness(self, name: str) -> str:
        """The statement on the last reply accepted from this site, in whichever study of this mirror."""
        return self.countersigner.of(self.mirror, name) if self.countersigner else ""

    def _exchange(self, request: TrainRequest) -> dict[str, Message | RefusalCode]:
        """Send the request to every connected site, each with its own witness statement."""
        limit_s = self.rules.deadline_s
        outgoing = {
            name: address(
                pack_request(replace(request, witness=self._witness(name))),
                node_id=self.sites[name],
                server_round=request.server_round,
                ttl_s=limit_s,
            )
            for name in (site.name for site in self.study.roster)
            if name in self.sites
        }
        return self._collect(outgoing, limit_s)

    def _collect(self, outgoing: Mapping[str, Message], limit_s: float) -> dict[str, Message | RefusalCode]:
        """Send one message to each site and collect what comes back in time."""
        ids = list(self.grid.push_messages(list(outgoing.values())))
        received: dict[str, Message | RefusalCode] = dict.fromkeys(outgoing, RefusalCode.UNREACHABLE)
        waiting = {message_id: name for message_id, name in zip(ids, outgoing, strict=False) if message_id}
        deadline = time.monotonic() + limit_s
        while waiting:
            for message in self.grid.pull_messages(list(waiting)):
                name = waiting.pop(message.metadata.reply_to_message_id, None)
                if name is not None:
                    received[name] = message
            if not waiting or time.monotonic() >= deadline:
                break
            time.sleep(self.rules.poll_s)
        received.update(dict.fromkeys(waiting.values(), RefusalCode.DEADLINE))
        return received

    def _outcome(
        self, name: str, received: Message | RefusalCode | None, request: TrainRequest
    ) -> TrainReply | Refusal:
        """A reply that counts, or why there is none."""
        if received is None:
            return Refusal(site=name, code=RefusalCode.OFFLINE)
        if isinstance(received, RefusalCode):
            return Refusal(site=name, code=received)
        try:
            answer = self._checked(name, received, request)
        except SynthkitError as error:
            return Refusal(site=name, code=RefusalCode.INVALID, detail=error.what)
        return Refusal(site=name, code=answer) if isinstance(answer, RefusalCode) else answer

    def _checked(self, name: str, message: Message, request: TrainRequest) -> TrainReply | RefusalCode:
        self._check_sender(name, message)
        answer = unpack_reply(message, like=request.weights)
        if isinstance(answer, RefusalCode):
            return answer
        plan, site = self.study.plan, self.study.site(name)
        bound = self.rules.max_update_norm or sane_update_norm(plan, request)
        check_reply(answer, request=request, site=site, max_norm=bound)
        if plan.prior_first:
            check_bought(answer, request=request, plan=plan, site=site)
        self.mirror.record(answer)
        return answer

    def _check_sender(self, name: str, message: Message) -> None:
        if not message.has_error() and message.metadata.src_node_id != self.sites[name]:
            raise InputError("came from another node")
