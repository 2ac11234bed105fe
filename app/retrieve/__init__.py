"""Finding passages: vectors and full text, fused into one ranking."""
