"""What a run's raw evidence amounts to: measures, verdicts, pictures, and one page that shows them."""
