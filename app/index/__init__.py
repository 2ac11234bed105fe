"""rag-index: keeps the local Chroma in step with PostgreSQL."""
