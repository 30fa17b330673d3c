"""What is particular to a kind of data: its units, its estimator, its evaluation."""
