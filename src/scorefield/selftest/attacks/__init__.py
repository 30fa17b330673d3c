"""Damage and attacks: runs, archives, pictures, and the source itself."""
