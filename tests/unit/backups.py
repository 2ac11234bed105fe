"""A backup host's settings in a folder of the test's own."""

from pathlib import Path

from app.backup.settings import Settings


def settings_in(folder: Path) -> Settings:
    """With spool and run, and figures beside them."""
    made = Settings.model_validate(
        {
            "site": "lab",
            "release": "1",
            "folder": folder,
            "textfiles": folder,
            "cluster": {"hosts": ["db1"], "ssl_root_cert": "ca", "ssl_cert": "crt", "ssl_key": "key"},
            "drill": {
                "chroma": "/opt/chroma",
                "inference": {"chat_model": "a", "embedding_model": "b", "embedding_dimension": 3},
            },
        }
    )
    for path in (made.spool, made.run):
        path.mkdir()
    return made
