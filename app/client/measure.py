"""`rag eval`: how well a collection is searched and answered from, by questions whose right answers are known."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from app import evaluate
from app.client.client import Client
from app.distances import proposed


def measure(client: Client, collection: str, file: Path, figures: Path | None) -> None:
    """Print the table, and write the same as JSON where that is wanted; ValueError for a file that cannot be used."""
    try:
        questions = evaluate.load(file)
        found = evaluate.measured(evaluate.Measured(client.http, collection), questions)
    except evaluate.EvaluationError as error:
        raise ValueError(str(error)) from None
    result = evaluate.figures(questions, found, f"evaluation of {collection}")
    nearest = ((one.answerable, asked.nearest) for one, asked in zip(questions, found, strict=True))
    sys.stdout.write(f"{evaluate.table({'all': result})}\n{proposed(nearest)}\n")
    if figures:
        figures.write_text(json.dumps([asdict(figure) for figure in result], indent=2) + "\n")
