"""How long a ledger of 100,000 entries takes to verify, to open, and to reserve from.

Prints seconds on the wall and, because the machine may be busy, seconds of the processor.
"""

import tempfile
import time
from pathlib import Path

from synthkit.domain.privacy import DpSgdEvent
from synthkit.privacy.ledger import Ledger, verify_ledger
from synthkit.privacy.ledger_chain import GENESIS_PREV, seal_entry

ENTRIES = 100_000


def write_ledger(path: Path) -> None:
    """A chain of reservations and commits, written without the syncs that would dominate."""
    event = DpSgdEvent(noise_multiplier=20.0, sample_rate=0.001, steps=6).to_json()
    opening = {
        "asset": "a",
        "site": "s",
        "epsilon": 8.0,
        "delta": 1e-6,
        "adjacency": "add_or_remove_one_patient",
        "reference": None,
    }
    prev, lines = GENESIS_PREV, []
    for n in range(ENTRIES):
        kind, fields = "open", opening
        if n:
            kind = "reserve" if n % 2 else "commit"
            fields = (
                {"study": "f" * 64, "server_round": n, "base_digest": "b" * 64, "events": [event]}
                if n % 2
                else {"reservation": n - 1, "reply_digest": "d" * 64}
            )
        line = seal_entry(n=n, prev=prev, kind=kind, time="2025-01-01T00:00:00+00:00", fields=fields)
        prev = line[-67:-3].decode()
        lines.append(line)
    path.write_bytes(b"".join(lines))


def timed(name: str, action) -> object:
    begun, worked = time.perf_counter(), time.process_time()
    result = action()
    wall, processor = time.perf_counter() - begun, time.process_time() - worked
    print(f"{name:<40} {wall:8.3f} s   {processor:8.3f} s of processor")
    return result


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        timed(f"write {ENTRIES} entries", lambda: write_ledger(path))
        summary = timed(f"verify {ENTRIES} entries", lambda: verify_ledger(path))
        ledger = timed("open", lambda: Ledger.open(path))
        events = [DpSgdEvent(noise_multiplier=20.0, sample_rate=0.001, steps=6)]

        def reserve() -> None:
            ledger.reserve(study="s", server_round=1, base_digest="b", events=events)

        timed("first reserve (imports, curve)", reserve)
        timed("second reserve", reserve)
        timed("spend of everything (PLD)", ledger.spend)
        assert summary.head[0] == ENTRIES - 1


if __name__ == "__main__":
    main()
