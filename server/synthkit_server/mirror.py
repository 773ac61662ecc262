"""BudgetMirror: what the coordinator remembers of each site's ledger.

Knows, per accepted reply, the site's ledger counter and head and its signature over both. Refuses to
judge budgets: the site's own ledger is the authority. What the mirror adds is an outside witness: a
site that restored an older copy of its ledger answers with a counter that did not grow, and is refused.
`synthkit_server.countersign` hands what is noted here back to the site, signed.

One mirror follows one asset per site: studies on another patient population need another file. The
same reply may arrive twice (the coordinator crashed after recording it and asked again): an entry equal
to the last one is accepted as the replay that it is.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from synthkit.domain.canonical import JsonObject, canonical_json
from synthkit.errors import InputError, LedgerError
from synthkit.federation.messages import TrainReply, digest_weights
from synthkit_server.storage import append_line


@dataclass(frozen=True, kw_only=True)
class MirrorEntry:
    """One accepted reply; with the roster's key anyone can verify `signature` from these fields."""

    site: str
    study_digest: str
    server_round: int
    base_digest: str
    weights_digest: str
    ledger_head: str
    ledger_counter: int
    signature: str

    @classmethod
    def of(cls, reply: TrainReply) -> "MirrorEntry":
        """The entry that stands for `reply`."""
        return cls(**reply.scalars(), weights_digest=digest_weights(reply.weights))  # type: ignore[arg-type]

    def to_json(self) -> JsonObject:
        """Canonical form."""
        return dict(vars(self))


class BudgetMirror:
    """The last entry of each site, and the file that holds all of them.

    Args:
        path: Where entries are appended, one JSON object a line; None keeps them in memory.

    Raises:
        InputError: The file is damaged elsewhere than in an unfinished last line.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._last: dict[str, MirrorEntry] = {}
        if path is not None and path.exists():
            for entry in _read(path):
                self._last[entry.site] = entry

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites of which there is an entry, by name."""
        return tuple(sorted(self._last))

    def last(self, site: str) -> MirrorEntry | None:
        """The newest entry of a site."""
        return self._last.get(site)

    def record(self, reply: TrainReply) -> None:
        """Check that the site's ledger moved on, then remember where it stands.

        Raises:
            LedgerError: The counter did not grow, or the head did not change: rolled back or forked.
        """
        entry = MirrorEntry.of(reply)
        last = self._last.get(entry.site)
        if entry == last:
            return
        if last is not None and entry.ledger_counter <= last.ledger_counter:
            raise LedgerError("ledger counter did not grow: rolled back", where=f"site {entry.site}")
        if last is not None and entry.ledger_head == last.ledger_head:
            raise LedgerError("ledger head did not change", where=f"site {entry.site}")
        if self._path is not None:
            append_line(self._path, canonical_json(entry.to_json()))
        self._last[entry.site] = entry


def _read(path: Path) -> list[MirrorEntry]:
    """All entries; a last line without its line end is a crash's remainder and is cut off."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    try:
        return [MirrorEntry(**json.loads(line)) for line in whole.splitlines()]
    except (ValueError, TypeError):
        raise InputError("the mirror is damaged", where=path.name, fix="restore it from a copy") from None
