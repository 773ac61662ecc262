"""Buy what a schema leaves open, under the asset's ledger; and check that a schema was bought there.

Knows a draft's rows, the noise to buy with and the ledger. The order is a training round's: reserve,
draw, store, commit. A crash after the reservation leaves it spent. The commit records the completed
schema's digest, so that a schema which merely claims to have been bought is found out.
"""

from collections.abc import Callable

from synthkit.data.purchase import Purchase, buy
from synthkit.data.table import PatientTable
from synthkit.domain.canonical import digest_of
from synthkit.domain.privacy import Budget, PrivacyEvent
from synthkit.domain.schema import Schema
from synthkit.errors import SchemaError
from synthkit.privacy.ledger import Ledger


def buy_schema(
    table: PatientTable,
    purchase: Purchase,
    *,
    ledger: Ledger,
    quota: Budget,
    store: Callable[[Schema], None],
) -> Schema:
    """Buy and store a completed schema.

    Args:
        table: Rows read with the purchase's draft.
        purchase: What to buy, with how much noise.
        ledger: The asset's.
        quota: The policy's cap for one study.
        store: Writes the completed schema where it outlives this process.

    Raises:
        BudgetExceededError: The asset's cap or the quota has no room; nothing was drawn.
        SchemaError: Noise hides a column's range. The cost stands.
        InputError: The schema cannot be stored. The cost stands.
    """
    reservation = ledger.reserve(
        study=digest_of({"purchase": purchase.draft.to_json()}),
        server_round=0,
        base_digest=ledger.head[1],  # differs at each purchase: the same draft bought twice is two
        events=purchase.events,
        study_budget=quota,
    )
    completed = buy(table, purchase)
    store(completed)
    ledger.commit(reservation, reply_digest=completed.digest)
    return completed


def check_reviewed(schema: Schema) -> None:
    """Refuse a schema that a person has not reviewed.

    Raises:
        SchemaError: A bound or category was read off the rows.
    """
    if schema.not_public():
        raise SchemaError(
            "its bounds or categories were read off the patients' rows",
            where=f"column {schema.not_public()[0]}",
            fix='review them and set provenance = "public", or "dp" to buy them; training refuses "data"',
        )


def check_bought(schema: Schema, ledger: Ledger | None) -> tuple[PrivacyEvent, ...]:
    """What the schema was bought with, according to the ledger; nothing for a schema that is all public.

    Raises:
        SchemaError: Something was read off the rows, is still to be bought, or was not bought under this
            ledger exactly as the schema says.
    """
    check_reviewed(schema)
    if schema.to_buy():
        raise SchemaError(
            "its bounds, bins or categories are still to be bought",
            where=f"column {schema.to_buy()[0]}",
            fix="buy them with `schema buy`",
        )
    if not schema.bought():
        return ()
    purchases = ledger.purchases(schema.digest) if ledger is not None else ()
    if not purchases:
        raise SchemaError(
            'claims provenance "dp", but this ledger holds no purchase of exactly this schema',
            where=f"column {schema.bought()[0]}",
            fix="buy it with `schema buy`, or give the ledger that it was bought under",
        )
    return tuple(event for purchase in purchases for event in purchase.reservation.events)
