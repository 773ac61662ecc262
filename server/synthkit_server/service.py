"""The coordinator's service: a SuperLink kept running, and the handed-in studies run one after the other.

Knows the coordinator's folder and a clock. Decides nothing about a study: the sites do, and the round loop
checks what they answer. Rules kept here: one service per folder; only enrolled nodes are let in, and one that
was replaced is forgotten; sites that do not come in the stated time are named, and the study stays in the
queue; whatever ends the service ends every process that it started; lines for the operator name sites and
codes, and nothing that a site wrote.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from synthkit.domain.enrolment import check_address
from synthkit.domain.study import Study
from synthkit.errors import InputError, PeerError, SynthkitError
from synthkit.federation.commands import quiet_environment
from synthkit.federation.processes import Children, is_service_running, only_service
from synthkit_server.app import FAILURE
from synthkit_server.bundle import build_bundle
from synthkit_server.enrolment import Member, read_roster
from synthkit_server.flower_adapter import ControlClient
from synthkit_server.folder import CoordinatorFolder
from synthkit_server.result import RESULT_JSON, FederationResult, RoundSummary
from synthkit_server.strategy import RoundRules
from synthkit_server.submissions import INITIAL, STUDY, State, Submission, read_submissions
from synthkit_server.superlink import START_S, SuperLink, follow_run, run_config, start_superlink

ONLINE = "online"

POLL_S = 1.0
"""Seconds between two looks at who is online, and at a run."""

IDLE_S = 5.0
"""Seconds between two looks at an empty queue."""

LOCK = "service.lock"

Tell = Callable[[str], None]

Finish = Callable[[Submission, FederationResult], None]
"""Makes the model of a study that ended."""


@dataclass(frozen=True, kw_only=True)
class ServiceRules:
    """How long to wait, and for what. `wait_s` is for the sites of one study to come online."""

    wait_s: float
    deadline_s: float = 3600.0
    """Seconds that a site has for one round."""
    min_sites: int = 0
    """Least sites of a round; 0: all of the roster."""
    average_last: Callable[[Study], int] = lambda _study: 1
    """Of how many last training rounds the averages are averaged again."""
    is_staying: bool = False
    """Whether the service waits for further studies when the queue is empty."""
    listen: str = ""
    """host:port of the SuperLink, in place of the folder's settings."""
    key: Path | None = None
    tls_key: Path | None = None
    """The signing key and the server's TLS key, where they do not lie in the folder."""
    study: str = ""
    """Run this one alone: its name, or the beginning of its digest. Empty: all that wait."""

    def rounds_of(self, study: Study) -> RoundRules:
        """The round loop's rules for a study."""
        return RoundRules(
            deadline_s=self.deadline_s,
            min_sites=self.min_sites or None,
            average_last=self.average_last(study),
        )

    def is_asked(self, submission: Submission) -> bool:
        """Whether this study is to be run."""
        study = submission.study
        return not self.study or self.study == study.name or study.digest.startswith(self.study)


def serve(
    folder: CoordinatorFolder, rules: ServiceRules, *, tell: Tell, finish: Finish
) -> tuple[Submission, ...]:
    """Run the queue; returns the studies that ended.

    Raises:
        InputError: Another service runs in this folder, or nothing was handed in.
        PeerError: Sites did not come in time, a round fell below its quorum, or the SuperLink died.
    """
    if not rules.is_staying and not _pending(folder, rules):
        raise InputError("no study is waiting", where=folder.path.name, fix="study submit, or add --stay")
    with only_service(folder.path / LOCK), Children(folder.path / "logs") as children:
        link = _start(folder, rules, children)
        service = _Service(folder=folder, rules=rules, tell=tell, finish=finish, link=link)
        with closing(service.link.control()) as control:
            return service.run_queue(control)


def _start(folder: CoordinatorFolder, rules: ServiceRules, children: Children) -> SuperLink:
    host, port = check_address(rules.listen or folder.settings.listen)
    files = folder.certificates
    home, temporary = folder.path / "flower", folder.path / "flower" / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    return start_superlink(
        children,
        replace(files, key=rules.tls_key or files.key),
        host=host,
        port=port,
        environment=quiet_environment(home=home, temporary=temporary, has_proxies=False),
        cwd=temporary,
        database=folder.path / "superlink.db",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Service:
    """The running parts."""

    folder: CoordinatorFolder
    rules: ServiceRules
    tell: Tell
    finish: Finish
    link: SuperLink

    def run_queue(self, control: ControlClient) -> tuple[Submission, ...]:
        """Every waiting study in turn; a study that failed is tried again only by the next service."""
        self.tell(f"SuperLink listens on {self.rules.listen or self.folder.settings.listen}")
        done: list[Submission] = []
        tried: set[Path] = set()
        members: tuple[Member, ...] | None = None
        while True:
            roster = read_roster(self.folder)
            if roster != members:
                enrol_nodes(control, roster)
                members = roster
            waiting = [entry for entry in _pending(self.folder, self.rules) if entry.folder not in tried]
            if waiting:
                tried.add(waiting[0].folder)
                done.extend(self._tried(control, waiting[0]))
            elif not self.rules.is_staying:
                return tuple(done)
            else:
                self.link.children.check_alive()
                time.sleep(IDLE_S)

    def _tried(self, control: ControlClient, submission: Submission) -> list[Submission]:
        """Run one; a staying service tells of an error and goes on, any other ends with it."""
        try:
            self._run(control, submission)
        except SynthkitError as error:
            self.link.children.check_alive()
            if not self.rules.is_staying:
                raise
            self.tell(f"study {submission.study.name} stopped: {error}")
            return []
        return [submission]

    def _run(self, control: ControlClient, submission: Submission) -> None:
        study = submission.study
        result = submission.run / RESULT_JSON
        if result.exists():  # the service died between the last round and the model
            self._finish(submission, FederationResult.load(submission.run))
            return
        self.tell(f"study {study.name} {study.digest[:12]}: waiting for {len(study.roster)} sites")
        self._wait_online(control, [site.name for site in study.roster])
        (submission.run / FAILURE).unlink(missing_ok=True)
        self._finish(submission, self._follow(control, submission))

    def _follow(self, control: ControlClient, submission: Submission) -> FederationResult:
        plan, rounds = submission.study.plan, self.rules.rounds_of(submission.study)

        def told(summary: RoundSummary) -> None:
            absent = "".join(f"; {refusal}" for refusal in summary.refusals)
            of = f"round {summary.server_round} of {plan.server_rounds}"
            self.tell(f"{of}: {', '.join(summary.sites)}{absent}")

        config = run_config(
            study_file=submission.folder / STUDY,
            trust=self.folder.trust_path,
            initial=submission.folder / INITIAL,
            output=submission.run,
            key=self.rules.key or self.folder.key_path,
            rules=rounds,
        )
        return follow_run(
            control,
            self.link.children,
            build_bundle(),
            config,
            output=submission.run,
            progress=told,
            poll_s=POLL_S,
            limit_s=START_S + plan.server_rounds * (rounds.deadline_s + START_S),
        )

    def _finish(self, submission: Submission, result: FederationResult) -> None:
        self.finish(submission, result)
        self.tell(f"study {submission.study.name} is done: {submission.model}")

    def _wait_online(self, control: ControlClient, names: Sequence[str]) -> None:
        """Wait for all; at the deadline a quorum will do.

        Raises:
            PeerError: Fewer are online at the deadline.
        """
        quorum = self.rules.min_sites or len(names)
        deadline = time.monotonic() + self.rules.wait_s
        seen: frozenset[str] = frozenset()
        while True:
            self.link.children.check_alive()
            online = online_sites(control) & set(names)
            for name in sorted(online ^ seen):
                self.tell(f"{name} {'is online' if name in online else 'went offline'}")
            seen = online
            missing = [name for name in names if name not in online]
            if not missing or (time.monotonic() > deadline and len(online) >= quorum):
                return
            if time.monotonic() > deadline:
                raise PeerError(
                    f"not online after {self.rules.wait_s:g} s: {', '.join(missing)}",
                    where="coordinator",
                    fix="let them start synthkit site run; the study stays in the queue",
                )
            time.sleep(POLL_S)


def enrol_nodes(control: ControlClient, members: Sequence[Member]) -> None:
    """Make the SuperLink's list of nodes the roster's: neither more nor fewer."""
    wanted = {member.node_key.encode(): member.name for member in members}
    known = {node.public_key: node for node in control.nodes() if not node.unregistered_at}
    for key, node in known.items():
        if wanted.get(key) != node.name:
            control.unregister_node(node.node_id)
    for key, name in wanted.items():
        if key not in known:
            control.register_node(name, key)


def online_sites(control: ControlClient) -> frozenset[str]:
    """Names of the sites whose node is online."""
    return frozenset(node.name for node in control.nodes() if node.status == ONLINE)


def _pending(folder: CoordinatorFolder, rules: ServiceRules) -> list[Submission]:
    over = (State.DONE, State.EXPIRED)
    found = [entry for entry in read_submissions(folder) if entry.state not in over]
    return [entry for entry in found if rules.is_asked(entry)]


def is_running(folder: CoordinatorFolder) -> bool:
    """Whether a service runs in this folder."""
    return is_service_running(folder.path / LOCK)
