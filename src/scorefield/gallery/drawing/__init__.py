"""Pictures in one and two dimensions that the tutorials share."""
