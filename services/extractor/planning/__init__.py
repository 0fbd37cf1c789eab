"""What an extraction reads: the window, the statement, the chunks."""
