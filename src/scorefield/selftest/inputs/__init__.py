"""Bad and unusual input, edges and units."""
