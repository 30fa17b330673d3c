"""Numbers against closed forms, 50 digits and a second implementation."""
