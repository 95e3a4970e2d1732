"""What is put into measured processes, to see what they do."""
