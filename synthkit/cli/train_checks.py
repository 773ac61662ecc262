"""Options of `synthkit train` that say nothing about the training asked for: refused by name.

Imports that take a second or more stand inside the functions that need them; see the package's docstring.
"""

# ruff: noqa: PLC0415

from synthkit.errors import InputError


def check_share(share: float | None, *, is_draft: bool) -> None:
    """Refuse a share of epsilon for the schema that is none, or where nothing is to be bought.

    Raises:
        InputError: Outside 0 to 1, or the schema is complete.
    """
    if share is None:
        return
    if not 0 < share < 1:
        raise InputError(
            "must lie between 0 and 1", where="option --preprocessing-share", fix="for example 0.1"
        )
    if not is_draft:
        raise InputError(
            "the schema leaves nothing to be bought", where="option --preprocessing-share", fix="leave it out"
        )


def check_stepwise(generator: str, given: list[str]) -> None:
    """Refuse options of a training by steps for a generator that takes none.

    Raises:
        InputError: Names the first such option.
    """
    from synthkit.generators.registry import is_stepped, stepped_twin

    if not is_stepped(generator) and given:
        raise InputError(
            f"{generator} is fitted to one release and takes no steps",
            where=f"option {given[0]}",
            fix=f"leave it out, or --generator {stepped_twin(generator)}",
        )
