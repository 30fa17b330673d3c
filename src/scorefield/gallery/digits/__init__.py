"""Tutorial 003: score matching on digits."""
