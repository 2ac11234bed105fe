"""What restic says, read: the kinds of failure, its two silences, and lines that fit the journal."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.backup import restic
from app.backup.restic import Repository, RepositoryError

ID = "895208b48aa1c337ff618945793e68752de5bbb5520ba5219dead99498261401"
OTHER = "1" + ID[1:]
SUMMARY = {
    "message_type": "summary",
    "files_new": 2,
    "data_added": 3001028,
    "data_added_packed": 3000906,
    "total_files_processed": 2,
    "total_bytes_processed": 3000003,
    "backup_start": "2026-11-27T17:43:40.843422764Z",
    "backup_end": "2026-11-27T17:43:41.52323413Z",
}
Says = Callable[..., Repository]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """A restic that says what it is told to, one verb a time; the words are those of 0.18.0."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    program = programs / "restic"

    def prepare(
        code: int = 0, stdout: object = "", stderr: object = "", then: str = "", location: str = "/r"
    ) -> Repository:
        said = {"out": stdout, "err": stderr}
        for name, text in said.items():
            (programs / name).write_text(text if isinstance(text, str) else json.dumps(text))
        program.write_text(f"#!/bin/sh\ncat {programs}/out\ncat {programs}/err >&2\n{then}\nexit {code}\n")
        program.chmod(0o755)
        return Repository(location, tmp_path / "repository-password")

    return prepare


def folder_of(tmp_path: Path, files: int = 2) -> Path:
    folder = tmp_path / "spool"
    folder.mkdir()
    for number in range(files):
        (folder / str(number)).write_text("x")
    return folder


def end(code: int, message: str) -> dict[str, object]:
    return {"message_type": "exit_error", "code": code, "message": message}


@pytest.mark.parametrize(
    ("code", "stderr", "kind", "names"),
    [
        (10, end(10, "Fatal: repository does not exist: unable to open config file"), "absent", "/r = absent"),
        (12, end(12, "Fatal: wrong password or no key found"), "password", "repository-password opens none"),
        (11, end(11, "Fatal: unable to create lock: repository is already locked by PID 7"), "locked", "PID 7"),
        (1, end(1, "Fatal: unexpected HTTP response (401): 401 Unauthorized"), "refused", "401"),
        (1, "Remove(<key/26a96bf210>) failed: unexpected HTTP response (403): 403 Forbidden\n", "refused", "403"),
        (1, end(1, "Fatal: unable to save snapshot: write /r/data/x: no space left on device"), "full", "no space"),
        (1, {"message_type": "error", "message": "pack cd7c: unexpected file size: got 1000\n"}, "corrupt", "cd7c"),
        (1, end(1, "Fatal: dial tcp 127.0.0.1:1: connect: connection refused"), "failed", "connection refused"),
        (2, "panic: runtime error\n", "failed", "panic"),
        (137, "", "failed", "137"),
    ],
)  # fmt: skip
def test_every_way_to_fail_has_its_kind_and_one_line(
    says: Says, code: int, stderr: object, kind: str, names: str
) -> None:
    repository = says(code, stderr=stderr)

    with pytest.raises(RepositoryError) as failed:
        restic.snapshots(repository)

    message = str(failed.value)
    assert failed.value.kind == kind
    assert names in message
    assert len(message.split("; ")) >= 3
    assert "\n" not in message


def test_a_file_that_could_not_be_read_is_named(says: Says, tmp_path: Path) -> None:
    unread = {
        "message_type": "error",
        "error": {"message": "open 2: permission denied"},
        "during": "archival",
        "item": "/spool/2",
    }
    repository = says(3, stdout=SUMMARY | {"snapshot_id": ID}, stderr=unread)

    with pytest.raises(RepositoryError, match="/spool/2: open 2: permission denied") as failed:
        restic.backup(repository, folder_of(tmp_path), tags=["wal"])

    assert failed.value.kind == "partial"


@pytest.mark.parametrize("files", [0, 1])
def test_a_folder_with_too_little_in_it_is_no_backup_whatever_restic_thinks(
    says: Says, tmp_path: Path, files: int
) -> None:
    repository = says(0, stdout=SUMMARY | {"snapshot_id": ID})

    with pytest.raises(RepositoryError, match=f"holds {files} files and 2 are expected"):
        restic.backup(repository, folder_of(tmp_path, files), tags=["wal"], least_files=2)


def test_a_folder_that_is_not_there_is_no_backup(says: Says, tmp_path: Path) -> None:
    repository = says(0, stdout=SUMMARY | {"snapshot_id": ID})

    with pytest.raises(RepositoryError, match="gone is not there"):
        restic.backup(repository, tmp_path / "gone", tags=["wal"])


@pytest.mark.parametrize(
    "told", ["", SUMMARY, SUMMARY | {"snapshot_id": ID, "total_files_processed": 1}], ids=["silent", "none", "few"]
)
def test_an_exit_code_of_zero_alone_is_no_backup(says: Says, tmp_path: Path, told: object) -> None:
    repository = says(0, stdout=told)

    with pytest.raises(RepositoryError):
        restic.backup(repository, folder_of(tmp_path), tags=["wal"], least_files=2)


def test_a_backup_tells_what_it_took(says: Says, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    taken = restic.backup(says(0, stdout=SUMMARY | {"snapshot_id": ID}), folder, tags=["wal"])

    assert taken
    assert (taken.id, taken.files, taken.bytes, taken.packed) == (ID, 2, 3000003, 3000906)
    assert (taken.paths, taken.tags) == ((str(folder),), ("wal",))
    assert taken.at.isoformat() == "2026-11-27T17:43:40.843422+00:00"
    assert restic.backup(says(0, stdout=SUMMARY), folder, tags=["wal"], skip_unchanged=True) is None


def listed(*ids: str) -> str:
    return json.dumps(
        [
            {"time": "2026-11-27T17:43:40.8Z", "paths": ["/spool"], "tags": None, "id": one, "short_id": one[:8]}
            for one in ids
        ]
    )


def test_a_forget_that_was_refused_in_silence_is_found(says: Says) -> None:
    # restic 0.18.0 exits with 0; the snapshots are all still there.
    repository = says(0)
    script = Path(repository.password_file).parent / "bin" / "restic"
    (script.parent / "all").write_text(listed(ID, OTHER))
    script.write_text(f'#!/bin/sh\ncase "$*" in *forget*) ;; *) cat {script.parent}/all;; esac\n')

    with pytest.raises(RepositoryError, match="1 of 1 snapshots were to be forgotten and are still there") as failed:
        restic.forget(repository, [ID])

    assert failed.value.kind == "refused"


def test_a_check_with_errors_is_corrupt_even_when_restic_ends_well(says: Says) -> None:
    repository = says(0, stdout={"message_type": "summary", "num_errors": 1, "broken_packs": ["cd7c"]})

    with pytest.raises(RepositoryError, match="1 errors") as failed:
        restic.check(repository, part=(1, 7))

    assert failed.value.kind == "corrupt"


@pytest.mark.parametrize(
    "told", ["", {"message_type": "summary", "total_files": 3, "files_restored": 2, "total_bytes": 9}]
)
def test_a_restore_that_lacks_files_is_no_restore(says: Says, tmp_path: Path, told: object) -> None:
    with pytest.raises(RepositoryError):
        restic.restore(says(0, stdout=told), ID, tmp_path / "out")


def test_who_waits_for_a_full_server_is_told_so_and_in_bounded_time(says: Says, tmp_path: Path) -> None:
    again = (
        "Save(<data/5f>) returned error, retrying after 13s: unexpected HTTP response (507): 507 Insufficient Storage"
    )
    repository = says(1, stderr=again, then="exec sleep 60")

    with pytest.raises(RepositoryError, match=r"did not end in 0 s, .*507") as failed:
        restic.backup(repository, folder_of(tmp_path), tags=["wal"], seconds=0.3)

    assert failed.value.kind == "full"


def test_no_password_of_an_address_gets_into_a_line(says: Says) -> None:
    address = "https://db1:secret@ops1:8448/db1/etcd"
    repository = says(1, stderr=end(1, f"Fatal: Head {address}/config: no such host"), location=f"rest:{address}")

    with pytest.raises(RepositoryError) as failed:
        restic.snapshots(repository)

    assert "secret" not in str(failed.value)
    assert "https://ops1:8448/db1/etcd" in str(failed.value)


def test_where_a_copy_comes_from_is_in_no_argument_list(says: Says, tmp_path: Path) -> None:
    then = f'echo "$* $RESTIC_FROM_REPOSITORY" >> {tmp_path}/asked'
    target = says(0, stdout={"message_type": "initialized"}, then=then)
    source = Repository("rest:https://db1:secret@ops1:8448/rag", tmp_path / "other", {"RESTIC_REST_USERNAME": "db1"})

    restic.init(target, like=source)

    (asked,) = (tmp_path / "asked").read_text().splitlines()
    arguments, origin = asked.rsplit(" ", 1)
    assert origin == source.location
    assert "secret" not in arguments


@pytest.mark.parametrize(
    ("said", "kind", "help_"),
    [
        ("@@@ REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.", "failed", "_host_key"),
        ("rag@nas: Permission denied (publickey).", "refused", "NAME=second-repository-key"),
        ("ssh: connect to host nas port 22: Connection refused", "failed", "a repository that answers"),
    ],
)
def test_why_ssh_did_not_come_in_is_told_though_restic_lost_it(says: Says, said: str, kind: str, help_: str) -> None:
    lost = end(1, "Fatal: unable to start the sftp session, error: error receiving version packet: unexpected EOF")
    then = f"for word; do case $word in sftp.args=*) echo '{said}' > ${{word##* }};; esac; done"
    repository = replace(says(1, stderr=lost, then=then, location="sftp:nas:/srv/wal"), ssh="-F none -i 'a key'")

    with pytest.raises(RepositoryError) as failed:
        restic.snapshots(repository)

    assert failed.value.kind == kind
    assert f"{said.splitlines()[-1].rstrip('.')}; " in str(failed.value)
    assert help_ in str(failed.value)


@pytest.mark.parametrize(
    ("said", "help_"),
    [
        (
            "unexpected HTTP response (401): 401 Unauthorized",
            "make keep-secret SITE=… NAME=second-repository-environment",
        ),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "second_repository_ca"),
        ("client.BucketExists: Access Denied.", "the log of that server"),
        ("Stat: The specified bucket does not exist", "a bucket that is there"),
        ("Stat: The AWS Access Key Id you provided does not exist in our records.", "second-repository-environment"),
        (
            "unable to open repository at s3:x: s3.getCredentials: no credentials found.",
            "second-repository-environment",
        ),
    ],
)
def test_what_a_server_elsewhere_has_against_us_has_its_own_help(says: Says, said: str, help_: str) -> None:
    for location, told in (("rest:https://nas/wal", True), ("/r", False)):
        with pytest.raises(RepositoryError) as failed:
            restic.snapshots(says(1, stderr=end(1, f"Fatal: {said}"), location=location))

        assert (help_ in str(failed.value)) == told


def test_copies_from_over_there_go_by_the_same_ssh(says: Says, tmp_path: Path) -> None:
    then = f'echo "$*" >> {tmp_path}/asked'
    source = Repository("sftp:nas:/srv/wal", tmp_path / "other", ssh="-i key")

    restic.init(says(0, stdout={"message_type": "initialized"}, then=then), like=source)

    assert " -o sftp.args=-i key -E /" in (tmp_path / "asked").read_text()


def test_a_restore_over_what_is_there_already_counts_it(says: Says, tmp_path: Path) -> None:
    told = {"message_type": "summary", "files_skipped": 2, "bytes_skipped": 3000001}

    assert restic.restore(says(0, stdout=told), ID, tmp_path / "out") == 3000001


def test_a_restore_that_finds_nothing_of_what_is_wanted_is_none(says: Says, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="holds nothing of what is wanted"):
        restic.restore(says(0, stdout={"message_type": "summary"}), ID, tmp_path / "out", include=["/gone"])
