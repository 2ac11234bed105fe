"""What embedding models want before a question and before a passage, as their model cards say; Ollama adds nothing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prefixes:
    """Put before each text that is embedded; a model that was trained with them finds less without."""

    query: str = ""
    document: str = ""


_SEARCHING = Prefixes("Represent this sentence for searching relevant passages: ")
_FAMILIES = {
    "nomic-embed-text": Prefixes("search_query: ", "search_document: "),
    "multilingual-e5": Prefixes("query: ", "passage: "),
    "embeddinggemma": Prefixes("task: search result | query: ", "title: none | text: "),
    "qwen3-embedding": Prefixes(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
    ),
    "mxbai-embed-large": _SEARCHING,
    "bge-large": _SEARCHING,
    "snowflake-arctic-embed2": Prefixes("query: "),
    "snowflake-arctic-embed": _SEARCHING,
}
# Of the same family, and asked in another way.
_OTHERWISE = ("multilingual-e5-large-instruct",)


def prefixes(model: str) -> Prefixes:
    """Those of the model's family, wherever in its name that stands; none of a family that is not known."""
    if any(other in model for other in _OTHERWISE):
        return Prefixes()
    # The longest first: arctic-embed2 is not asked as arctic-embed is.
    return next(
        (_FAMILIES[family] for family in sorted(_FAMILIES, key=len, reverse=True) if family in model), Prefixes()
    )
