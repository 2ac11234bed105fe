"""Answering from passages, with citations that our own code has checked."""
