"""The systems that EVA's paper compares with, as settings of the same code: only their idea differs.

Source: Biswal et al., EVA, section 5 (baselines). All decode the codes of a visit as `eva` does.
"""

from collections.abc import Mapping
from typing import ClassVar

from synthkit.generators.eva import Eva


class LstmRival(Eva):
    """The paper's LSTM: no latent, an LSTM over visits, no memory of single codes."""

    kind = "lstm"
    defaults: ClassVar[Mapping[str, float]] = {**Eva.defaults, "latent": 0, "recurrent": 1, "memory": 0}


class VaeLstmRival(Eva):
    """The paper's VAE-LSTM: a latent, an LSTM over visits, no memory of single codes."""

    kind = "vae-lstm"
    defaults: ClassVar[Mapping[str, float]] = {**Eva.defaults, "recurrent": 1, "memory": 0}


class VaeDeconvRival(Eva):
    """The paper's VAE-Deconv: all of a record from its latent, visits do not see one another."""

    kind = "vae-deconv"
    defaults: ClassVar[Mapping[str, float]] = {**Eva.defaults, "layers": 0, "memory": 0}
