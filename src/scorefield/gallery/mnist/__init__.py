"""Tutorial 002: score-based models with an SDE, on MNIST."""
