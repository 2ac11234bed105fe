"""The backup host's program: receives the log, copies it away, and proves that it comes back."""
