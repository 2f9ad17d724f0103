"""Scores of programs: metrics, evaluation over a data set, and the statistics that say what a score is worth."""
