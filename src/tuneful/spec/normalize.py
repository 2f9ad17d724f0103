"""normalize_text: the form in which two short answers are compared."""

from __future__ import annotations

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_text(text: str) -> str:
    """Return the text in lower case, without punctuation, articles and surplus blanks.

    >>> normalize_text("The  Eiffel-Tower!")
    'eiffeltower'

    Source: the normalisation of the SQuAD evaluation (Rajpurkar et al., 2016), after Unicode decomposition.
    """
    plain = unicodedata.normalize("NFD", text).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())
