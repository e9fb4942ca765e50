"""Seeds that are derived from the seed of a run."""

import hashlib


def derive_seed(seed: int, *labels: str | int) -> int:
    """A separate seed for every purpose and step, so that none depends on what was drawn before."""
    digest = hashlib.blake2b(repr((seed, *labels)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
