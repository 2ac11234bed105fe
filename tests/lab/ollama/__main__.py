"""python3 -m tests.lab.ollama build | check: make the stand-in for Ollama, or try it with Ollama's own client."""

import sys

from tests.lab.ollama import build


def main() -> None:
    """One verb; any other is refused."""
    match sys.argv[1:]:
        case ["build"]:
            build.build()
        case ["check"]:
            # It needs the ollama package, which building does not.
            from tests.lab.ollama import check  # noqa: PLC0415

            check.check()
        case words:
            raise SystemExit(f"verb = {' '.join(words) or 'none'}; build or check; python3 -m tests.lab.ollama build")


main()
