"""A record of labels on disk: what it has after kills, full disks and other hands."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from frofa import load_images
from frofa.annotation.records.file import LabelFile
from frofa.annotation.records.history import History
from frofa.annotation.records.rows import HEADER, Row, parse_rows, row_bytes, utc_now, whole_rows

LINES = b"a.jpg,cat,2026-01-01T00:00:00.000Z,key\nb.jpg,dog,2026-01-01T00:00:00.001Z,guess\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


def opened(file: Path, content: bytes) -> tuple[LabelFile, list[Row]]:
    file.write_bytes(content)
    record = LabelFile(file)
    return record, record.open()


def paths(rows: list[Row]) -> list[str]:
    return [row.path for row in rows]


def test_a_new_record_has_a_header(file: Path) -> None:
    assert LabelFile(file.parent / "new" / file.name).open() == []
    assert (file.parent / "new" / file.name).read_bytes() == HEADER


@pytest.mark.parametrize("kept", range(1, 40))
def test_a_row_that_was_cut_off_is_removed(file: Path, kept: int) -> None:
    lines = LINES.splitlines(keepends=True)
    record, rows = opened(file, HEADER + lines[0] + lines[1][:kept])
    assert paths(rows) == ["a.jpg"]
    assert file.read_bytes() == HEADER + lines[0]
    assert len(record.notes) == 1


def test_a_row_cut_off_within_a_name_of_several_lines_is_removed(file: Path) -> None:
    _, rows = opened(file, HEADER + LINES + b'"c\nd')
    assert paths(rows) == ["a.jpg", "b.jpg"]
    assert file.read_bytes() == HEADER + LINES


def test_a_last_row_that_lacks_only_its_line_break_stays(file: Path) -> None:
    record, rows = opened(file, HEADER + LINES[:-1])
    assert (paths(rows), record.notes) == (["a.jpg", "b.jpg"], [])
    assert file.read_bytes() == HEADER + LINES


def test_a_header_that_was_cut_off_is_written_again(file: Path) -> None:
    assert opened(file, HEADER[:7])[1] == []
    assert file.read_bytes() == HEADER


def test_an_open_quote_is_no_row_that_was_cut_off(file: Path) -> None:
    content = HEADER + b'"a.jpg,cat,2026-01-01T00:00:00.000Z,key\n' + LINES
    with pytest.raises(ValueError, match="quotation mark that is not closed"):
        opened(file, content)
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.jpg,cat\n", "expected the columns path,label,when,how"),
        (b"photo of a cat", "no record of labels"),
        (HEADER + b"a.jpg,cat\n" + LINES, r"line 2: expected path,label,when,how. Got 2 fields"),
        (HEADER + LINES + b"a.jpg,cat,now,key,more\n", "line 4: expected"),
        (HEADER + b",cat,now,key\n", "line 2: expected"),
        ("\ufeffpath,label,when,how\n".encode("utf-16-le"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no record of labels"),
    ],
)
def test_other_files_are_refused_and_stay_as_they_are(file: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(file, content)
    assert file.read_bytes() == content


def test_a_file_that_a_spreadsheet_saved_is_read_and_appended_to(file: Path) -> None:
    record, rows = opened(file, b"\xef\xbb\xbf" + (HEADER + LINES).replace(b"\n", b"\r\n"))
    assert paths(rows) == ["a.jpg", "b.jpg"]
    record.append([("c.jpg", "cat", "key")])
    assert paths(LabelFile(file).open()) == ["a.jpg", "b.jpg", "c.jpg"]


def test_times_are_later_than_all_before(file: Path) -> None:
    record, _ = opened(file, HEADER + b"a.jpg,cat,2999-01-01T00:00:00.000Z,key\n")
    appended = record.append([("b.jpg", "cat", "key"), ("c.jpg", "cat", "key")])
    assert appended is not None
    assert [row.when for row in appended.written] == 2 * ["2999-01-01T00:00:00.001Z"]
    assert utc_now("yesterday") > "2026"


NAMES = ["a.jpg", "a, b.jpg", '"q"', "line\nbreak", "cr\rin", " blank ", os.fsdecode(b"\xff\xfe"), "é", "=1+1", "x\r\n"]


def test_names_of_all_kinds_come_back() -> None:
    rows = [Row(name, "c, d", "2026-01-01T00:00:00.000Z", "key") for name in NAMES]
    data = b"".join(map(row_bytes, rows))
    assert parse_rows(data, "") == rows
    assert whole_rows(data) == len(data)
    # Cut anywhere, it has a whole number of rows.
    ends = {len(b"".join(map(row_bytes, rows[:n]))) for n in range(len(rows) + 1)}
    assert {whole_rows(data[:end]) for end in range(len(data))} <= ends


class FullDisk:
    """A system call that writes so many bytes, and then finds the disk full."""

    def __init__(self, room: int):
        self.room, self.write = room, os.write

    def __call__(self, descriptor: int, data: Any) -> int:
        part = memoryview(data)[: self.room]
        self.room -= len(part)
        if not len(part):
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.write(descriptor, part)


@pytest.mark.parametrize("room", [0, 1, 30, 60])
def test_a_full_disk_leaves_the_file_as_it_was(file: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = opened(file, HEADER + LINES)
    with monkeypatch.context() as patched:
        patched.setattr("frofa.annotation.records.file.os.write", FullDisk(room))
        with pytest.raises(OSError, match="No space left"):
            record.append([("c.jpg", "cat", "key"), ("d.jpg", "cat", "key")])
    assert file.read_bytes() == HEADER + LINES
    record.append([("c.jpg", "cat", "key")])
    assert paths(LabelFile(file).open()) == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_limit_of_the_system_leaves_the_file_as_it_was(file: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from frofa.annotation.records.file import LabelFile;"
        "record = LabelFile(Path(sys.argv[1])); record.open(); record.append([('a.jpg', 'cat', 'key')]);"
        "size = Path(sys.argv[1]).stat().st_size; resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, size + 50));"
        "\ntry: record.append([(f'{n}.jpg', 'cat', 'key') for n in range(5)])\n"
        "except OSError as error: print(error.errno)"
    )
    run = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(errno.EFBIG)
    assert paths(LabelFile(file).open()) == ["a.jpg"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_sync_that_fails_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = opened(file, HEADER + LINES)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("frofa.annotation.records.file.os.fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            record.append([("c.jpg", "cat", "key")])
    assert file.read_bytes() == HEADER + LINES


def test_every_row_is_synced(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, _ = opened(file, HEADER)
    synced: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(descriptor)
        fsync(descriptor)

    monkeypatch.setattr("frofa.annotation.records.file.os.fsync", note)
    for number in range(3):
        record.append([(f"{number}.jpg", "cat", "key")])
        assert len(synced) == number + 1


def test_rows_of_others_are_read(file: Path) -> None:
    one, other = LabelFile(file), LabelFile(file)
    one.open()
    other.open()
    one.append([("a.jpg", "cat", "key")])
    appended = other.append([("b.jpg", "dog", "key")])
    assert appended is not None
    assert (paths(appended.found), paths(appended.written)) == (["a.jpg"], ["b.jpg"])
    assert paths(one.news() or []) == ["b.jpg"]
    assert one.news() == []


def test_a_row_that_another_process_is_writing_waits(file: Path) -> None:
    record, _ = opened(file, HEADER)
    with file.open("ab") as stream:
        stream.write(LINES[:50])
        stream.flush()
        assert paths(record.news() or []) == ["a.jpg"]
        stream.write(LINES[50:])
    assert paths(record.news() or []) == ["b.jpg"]


@pytest.mark.parametrize(
    "new", [b"", LINES[:39], LINES.replace(b"cat", b"cow"), LINES.replace(b"cat", b"lynx") + LINES]
)
def test_a_file_that_was_edited_is_to_be_opened_again(file: Path, new: bytes) -> None:
    record, _ = opened(file, HEADER + LINES)
    file.write_bytes(HEADER + new)
    assert record.news() is None
    assert record.append([("c.jpg", "cat", "key")]) is None
    assert file.read_bytes() == HEADER + new


def test_an_edit_far_before_the_end_is_seen(file: Path) -> None:
    many = b"".join(LINES.replace(b"b.jpg", f"{number}.jpg".encode()) for number in range(100))
    record, _ = opened(file, HEADER + LINES.replace(b"dog", b"cat") + many)
    file.write_bytes(HEADER + LINES + many)
    assert record.news() is None


def test_a_file_that_was_removed_is_to_be_opened_again(file: Path) -> None:
    record, _ = opened(file, HEADER + LINES)
    file.unlink()
    assert record.news() is None


def test_threads_of_two_records_lose_nothing(file: Path) -> None:
    def write(name: str) -> None:
        record = LabelFile(file)
        record.open()
        for number in range(20):
            record.append([(f"{name}{number}.jpg", "cat", "key")])

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = LabelFile(file).open()
    assert sorted(paths(rows)) == sorted(f"{name}{number}.jpg" for name in "ab" for number in range(20))
    times = [row.when for row in rows]
    assert times == sorted(set(times))


def test_a_process_that_is_killed_leaves_whole_rows(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from frofa.annotation.records.file import LabelFile;"
        "record = LabelFile(Path(sys.argv[1])); record.open(); number = 0\n"
        "while True: record.append([(f'{number} {k}.jpg', 'cat', 'key') for k in range(50)]); print(flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code, file], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert len(LabelFile(file).open()) >= 1000


def test_images_and_labels_are_loaded_from_a_record(file: Path) -> None:
    record = LabelFile(file)
    record.open()
    for decision in [
        ("a.jpg", "cat", "key"),
        ("b.jpg", "dog", "key"),
        ("sub/c d.jpg", "", "unsure"),
        ("a.jpg", "lynx", "guess"),
        ("b.jpg", "", "undo"),
        (os.fsdecode(b"\xff.jpg"), "cat", "cluster"),
    ]:
        record.append([decision])
    file.write_bytes(file.read_bytes() + b"a.jpg,do")
    images = load_images(file)
    assert images.labels is not None
    expected = {"a.jpg": "lynx", "sub/c d.jpg": "", os.fsdecode(b"\xff.jpg"): "cat"}
    assert dict(zip(images.items, images.labels.tolist(), strict=True)) == {
        str(file.parent / path): label for path, label in expected.items()
    }
    assert any("cut off" in note for note in images.notes)


def history_of(*rows: str) -> History:
    paths_ = [row.split()[0] for row in rows]
    history = History(paths_)
    for number, row in enumerate(rows):
        path, label, how = row.split()
        history.add([Row(path, label.strip("-"), f"{number}", how)])
    return history


def test_undo_takes_off_the_last_decision_only() -> None:
    assert history_of("a cat key", "a dog key", "a cat undo").decision("a") == ("cat", "key")
    assert history_of("a - unsure", "a dog key", "a - undo").decision("a") == ("", "unsure")
    assert history_of("a cat key", "a dog key", "a lynx undo").decision("a") == ("lynx", "undo")
    assert history_of("a cat key", "a - undo", "a - undo").decision("a") == ("", "undo")
    assert history_of("a cat key", "a - undo").classes == {"cat": 0}
