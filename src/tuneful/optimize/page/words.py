"""Words: what the terms of a report mean, for someone who has never used the framework."""

from __future__ import annotations

GLOSSARY = {
    "Program": "Ordinary code that asks a language model in one or several steps.",
    "Predictor": "One step of a program: it gives the model some inputs and gets output fields back.",
    "Compile": "Search for values (demos, instructions, numbers) with which the program scores better.",
    "Teleprompter": "A method of such a search. Also called an optimizer.",
    "Metric": "A function that says how good one answer is. Scores here are shown in per cent: 100 % is a score of 1.",
    "Demo": "A worked example that stands in the prompt: inputs with good outputs.",
    "Original": "The program as it was before the compile.",
    "Candidate": "The program with some values changed, as the search has tried it.",
    "Search rows": "Rows of data that the search looked at. Scores on them are flattering: the search chose by them.",
    "Held-out rows": "Rows that the search never saw. Only the comparison on them decides.",
    "95 % interval": "Where the true mean probably lies, given how few rows were measured: 19 times in 20.",
    "Win, loss": "A held-out row on which the best candidate scores more, or less, than the original.",
    "Rollout": "One run of a program on one row.",
    "Call": "One request to a model. Answers from the cache are no calls and cost nothing.",
    "Token": "A piece of text as a model counts it, some four characters of English. Prices are per token.",
}

#: What a warning means and what to do, by a word that occurs in its kind.
WARNINGS = {
    "repair turn": "An answer could not be read, and the model was asked once more: costs a call each.",
    "tolerated": "An answer was not quite in the form asked for, and could be read all the same.",
    "parse error": "An answer could not be read at all; the row counts as failed.",
    "infra error": "The model or a retriever failed. Such rows are left out, and tried again when the run is resumed.",
    "no API key": "A model was to be asked whose key is not there. Set it, and run the same again: it goes on.",
    "earlier records": "Nothing that was paid for before was of use: program, metric or rows have changed since.",
    "metric error": "The metric raised on such rows; they are left out. Look into the metric.",
    "program error": "The program raised on such rows; they count as failed.",
    "none more": "No run scored anything. If answers look right beside what was expected, the metric is wrong.",
    "over limit": "Runs that took more than the objectives allow; they score 0.",
    "timeout": "Rows that took too long; they count as failed.",
    "truncated answer": "An answer was cut at the token limit: raise `max_tokens`.",
    "demo dropped": "A prompt was too long for the model, so demos were left out of it: use fewer or shorter ones.",
    "retry": "A request failed and was repeated: nothing to do, unless there are many.",
}

VERDICTS = {
    "better": "The compiled program is better than the original, on rows that had no part in making or choosing it.",
    "not worse": "A candidate is as good as the original, within the margin that was asked for, and takes its place.",
    "not distinguishable": "The best candidate looks better, but that could be luck. The original is returned.",
    "no gain": "The search found nothing that is better than the original. The original is returned.",
    "not compared": "Too few rows were there to compare the best candidate on. The original is returned.",
    "not validated": "There was nothing to compare with, so nobody knows whether the compiled program is better.",
    "nothing learned": "The search found no candidate. The original is returned.",
}


def meaning(warning: str) -> str:
    """Return what a warning means, or "" for one that speaks for itself."""
    return next((said for word, said in WARNINGS.items() if word in warning), "")
