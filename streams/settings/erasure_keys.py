"""The keys under which erased customers are remembered: the newest writes, and all of them are recognised."""

from __future__ import annotations

from dataclasses import dataclass, field

from enrichment.identity import erased_key, key_fingerprint


@dataclass(frozen=True, slots=True)
class ErasureKeys:
    """The newest key, and those that were used before it; no key is ever shown, also not by `repr`."""

    newest: bytes = field(repr=False)
    earlier: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What tells the keys from others without giving them away; the newest first, each once."""
        return tuple(dict.fromkeys(map(key_fingerprint, (self.newest, *self.earlier))))

    def hash_of(self, customer_id: str) -> str:
        """The HMAC under which a customer who is erased now is remembered."""
        return erased_key(customer_id, self.newest)

    def hashes_of(self, customer_id: str) -> list[str]:
        """Every HMAC under which a customer's erasure may have been remembered; the newest key's first."""
        return [erased_key(customer_id, key) for key in (self.newest, *self.earlier)]
