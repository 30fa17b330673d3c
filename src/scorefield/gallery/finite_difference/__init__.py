"""Tutorial 001: finite-difference score matching in one dimension."""
