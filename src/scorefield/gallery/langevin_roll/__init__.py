"""Tutorial 002: implicit score matching and Langevin dynamics on a Swiss roll."""
