"""Which demos a predictor shows, and which predictor teaches which."""
