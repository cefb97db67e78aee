"""The dicts of the live path have the keys of the models, in their order."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from schemas import changes, documents, profiles, triggers

MODELS: dict[Any, type[BaseModel]] = {
    documents.ModelDocument: profiles.ModelReference,
    documents.TraitsDocument: profiles.Traits,
    documents.AggregatesDocument: profiles.Aggregates,
    documents.ProfileDocument: profiles.CustomerProfile,
    documents.DriverDocument: changes.Driver,
    documents.ReasonDocument: changes.ChangeReason,
    documents.ChangeDocument: changes.SegmentChange,
    documents.TriggerDocument: triggers.ReactivationTrigger,
}


@pytest.mark.parametrize("document", MODELS, ids=lambda document: document.__name__)
def test_a_document_has_the_keys_of_its_model(document: Any) -> None:
    """Of each output and of what lies in it."""
    assert list(document.__annotations__) == list(MODELS[document].model_fields)
