"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tuneful as tf


@pytest.fixture(autouse=True)
def no_cache() -> Iterator[None]:
    """Answers are cached by default; a test that wants that says so."""
    from tuneful.program import runtime

    before = runtime.settings.cache
    tf.configure(cache=False)
    yield
    tf.configure(cache=before)
