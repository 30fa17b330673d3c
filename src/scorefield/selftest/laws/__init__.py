"""What is drawn against the law that theory gives it, and properties that always hold."""
