"""Tutorial 002: score-based models with an SDE, on a swiss roll and one Gaussian."""
