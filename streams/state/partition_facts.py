"""What a partition was begun with and must go on with: the erasure keys in use, and the namespace of its change ids.

Kept with each micro-batch in Redis' meta, and as a record in `ebbtide-decisions`, so that a restore knows it too.
"""

from __future__ import annotations

import msgspec

from streams.kafka.size_limits import StoppedError
from streams.settings import PREFIX, Settings

EARLIER_KEYS_VARIABLE = f"{PREFIX}EARLIER_ERASURE_KEYS"


class Facts(msgspec.Struct, frozen=True):
    """Fingerprints of the erasure keys in use, and the namespace that holds where no setting names one."""

    erasure_keys: tuple[str, ...]
    namespace: str

    def change_namespace(self, settings: Settings) -> str:
        """What goes into the id of every change of the partition."""
        return settings.namespace or self.namespace

    def pack(self) -> bytes:
        """As Redis and `ebbtide-decisions` hold them."""
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, packed: bytes) -> Facts:
        """What `pack` packed."""
        return msgspec.json.decode(packed, type=cls)


def facts_after(known: Facts | None, settings: Settings, partition: int, *, is_begun: bool) -> Facts:
    """The facts from now on, by those that are known and these settings.

    A partition that has begun without facts is one of Ebbtide 0.1. It keeps the namespace of that version, so that
    nobody changes their group of re-activation; all keys that are set count as used, since nothing tells which were.

    Raises:
        StoppedError: a key that was used is not among those that are set.
    """
    fingerprints = settings.erasure_keys.fingerprints
    if known is None:
        return Facts(fingerprints, settings.joined_by_0_1 if is_begun else settings.joined)
    if problem := wrong_erasure_key(known, settings):
        raise StoppedError(f"partition {partition}: stopped: {problem}")
    if fingerprints[0] in known.erasure_keys:
        return known
    return Facts((*known.erasure_keys, fingerprints[0]), known.namespace)


def wrong_erasure_key(known: Facts, settings: Settings) -> str | None:
    """What is wrong with the erasure keys that are set, if any that was used is not among them."""
    fingerprints = settings.erasure_keys.fingerprints
    missing = [used for used in known.erasure_keys if used not in fingerprints]
    if not missing:
        return None
    return (
        f"erasures may be remembered under another erasure key (fingerprint {', '.join(missing)}) than those that are "
        f"set ({', '.join(fingerprints)}): set {PREFIX}ERASURE_KEY as it was, or keep the earlier key in "
        f"{EARLIER_KEYS_VARIABLE}"
    )
