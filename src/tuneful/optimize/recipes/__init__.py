"""Recipes: teleprompters, each a short composition of proposers and strategies. Recipes do not import one another."""
