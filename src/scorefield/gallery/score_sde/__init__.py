"""Tutorial 000: score-based modelling through stochastic differential equations."""
