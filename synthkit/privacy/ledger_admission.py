"""Is there room for more? What a ledger asks before it writes a reservation. No files.

Knows the state of one ledger's book and what is about to be drawn. Refuses before anything is written.
"""

from collections.abc import Sequence

from synthkit.domain.privacy import Budget, PrivacyEvent
from synthkit.privacy.accounting import check_adjacency, check_tally_admissible
from synthkit.privacy.ledger_book import Book
from synthkit.privacy.renyi import Tally


def check_room(book: Book, study: str, events: Sequence[PrivacyEvent], study_budget: Budget | None) -> None:
    """Refuse if the asset's cap, or the study's quota, is exceeded by history and `events`.

    Raises:
        BudgetExceededError: It would be; `where` says which of the two.
    """
    budget = book.header.budget
    check_adjacency(events, budget.adjacency)
    check_tally_admissible(
        _with(book.tally, events),
        budget,
        reference=book.reference or events[0],
        where=f"asset {book.header.asset}",
    )
    if study_budget is None:
        return
    check_adjacency(events, study_budget.adjacency)
    check_tally_admissible(
        _with(book.study_tallies.get(study, Tally()), events),
        study_budget,
        reference=book.study_references.get(study, events[0]),
        where="this study's quota",
    )


def _with(tally: Tally, events: Sequence[PrivacyEvent]) -> Tally:
    """The tally with these events added, the original untouched."""
    total = tally.copy()
    for event in events:
        total.add(event)
    return total
