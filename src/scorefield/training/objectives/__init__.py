"""What is minimised: score-matching losses, and the table of them that training chooses from."""
