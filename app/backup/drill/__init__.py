"""The restore drill: the newest backup becomes a running platform in a place of its own, is asked, and is removed."""

from app.backup.drill.main import run as run
