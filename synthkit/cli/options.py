"""Options that several commands share, so that they read the same everywhere. Typer and paths only."""

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON object on standard output; all else on standard error."),
]
SchemaOption = Annotated[Path, typer.Option("--schema", help="The table's schema, TOML.")]
LedgerOption = Annotated[Path, typer.Option("--ledger", help="The asset's ledger at this site.")]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Write a self-contained HTML page; replaces an older one.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Makes the run repeatable.")]
ShareOption = Annotated[
    float | None,
    typer.Option(
        "--preprocessing-share",
        help='Share of epsilon for what the schema marks provenance = "dp". Default: 0.2.',
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
KeyOption = Annotated[Path, typer.Option("--key", help="The private key that `release keygen` wrote.")]
PassphraseOption = Annotated[
    str | None,
    typer.Option("--passphrase-env", metavar="VAR", help="Environment variable with the key's passphrase."),
]
TrustOption = Annotated[
    Path, typer.Option("--trust", help="Trusted keys: a .json or .toml file, or a folder of them.")
]
PolicyTrustOption = Annotated[
    Path | None,
    typer.Option("--trust", help="Trusted keys; given, an officer's signature on the policy is demanded."),
]
VaultKeyOption = Annotated[
    Path | None,
    typer.Option("--vault-key", help="A reader's private key, for a table or records in a vault."),
]
VaultPassphraseOption = Annotated[
    str | None,
    typer.Option(
        "--vault-passphrase-env", metavar="VAR", help="Environment variable with that key's passphrase."
    ),
]
RevocationsOption = Annotated[
    Path | None,
    typer.Option("--revocations", help="What `release revoke` wrote: a .json file, or a folder of them."),
]
