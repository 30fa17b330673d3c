"""Tutorial 004: score fields and Langevin dynamics in the plane."""
