"""Secrets at rest: sealed by a data key per workspace, which a master key wraps.

`Vault` seals and opens; `rows`, `store`, `forget` and `names` touch the table inside the caller's
transaction; `rotate` changes every key while the hub runs. No plaintext is kept anywhere.
"""

from trunkline.vault.keyring import KeyRing
from trunkline.vault.rotation import RotationReport, rotate
from trunkline.vault.stored import SealedRow, SealedSecrets, forget, names, rows, store
from trunkline.vault.vault import Vault

__all__ = [
    "KeyRing",
    "RotationReport",
    "SealedRow",
    "SealedSecrets",
    "Vault",
    "forget",
    "names",
    "rotate",
    "rows",
    "store",
]
