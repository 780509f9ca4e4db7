import os
from pathlib import Path

import pytest

from siglip_cli.errors import CommandError
from siglip_cli.images import Source, Unreadable, find, read


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "deep/er/c.webp",
        "notes.txt",
        ".hidden.png",
        "deep/x.tiff",
        "empty/readme",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    return [source.name for source in find(arguments)]


def test_folder_is_searched_through_and_sorted(photos: Path) -> None:
    assert names(".") == ["a.png", "b.JPG", "deep/er/c.webp", "deep/x.tiff"]
    assert names(str(photos / "deep")) == [str(photos / "deep/er/c.webp"), str(photos / "deep/x.tiff")]


def test_links_to_folders_are_not_followed(photos: Path) -> None:
    (photos / "deep" / "loop").symlink_to(photos, target_is_directory=True)
    assert len(names(".")) == 4


def test_named_files_are_taken_whatever_their_name(photos: Path) -> None:
    assert names("notes.txt", ".hidden.png", "b.JPG") == ["notes.txt", ".hidden.png", "b.JPG"]


def test_globs(photos: Path) -> None:
    assert names("*.png") == ["a.png"]
    assert names("**/*.*") == ["a.png", "b.JPG", "deep/er/c.webp", "deep/x.tiff", "notes.txt"]
    assert names(str(photos / "deep" / "*.tiff")) == [str(photos / "deep/x.tiff")]


def test_file_whose_name_looks_like_a_glob(photos: Path) -> None:
    (photos / "shot[1].png").touch()
    assert names("shot[1].png") == ["shot[1].png"]


def test_order_of_arguments_and_repeats_are_kept(photos: Path) -> None:
    assert names("deep/x.tiff", "a.png", "a.png") == ["deep/x.tiff", "a.png", "a.png"]


@pytest.mark.parametrize(
    ("argument", "problem"),
    [("gone.png", "no such file"), ("*.bmp", "no file matches"), ("empty", "no image in this folder")],
)
def test_what_leads_to_no_image_is_one_failed_item(photos: Path, argument: str, problem: str) -> None:
    [failed, good] = find([argument, "a.png"])
    assert problem in failed.problem
    with pytest.raises(Unreadable, match=problem):
        read(failed, 100)
    assert read(good, 100) == b"a.png"


def test_too_large_a_file_is_not_read(photos: Path) -> None:
    with pytest.raises(Unreadable, match="more bytes than the limit, 4") as caught:
        read(Source("a.png"), 4)
    assert caught.value.reason == "IMAGE_TOO_LARGE"


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_unreadable_file(photos: Path) -> None:
    (photos / "a.png").chmod(0)
    with pytest.raises(Unreadable, match="Permission denied"):
        read(Source("a.png"), 100)


def test_file_that_went_away(photos: Path) -> None:
    [source] = find(["a.png"])
    (photos / "a.png").unlink()
    with pytest.raises(Unreadable, match="No such file"):
        read(source, 100)


def test_a_pipe_is_as_good_as_a_file(photos: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"piped")
    os.close(writer)
    [source] = find([f"/dev/fd/{reader}"])
    assert read(source, 100) == b"piped"
    os.close(reader)


def test_an_empty_name_is_not_the_current_folder(photos: Path) -> None:
    with pytest.raises(CommandError, match="the name of an image is empty"):
        find(["a.png", ""])


def test_standard_input_only_once() -> None:
    assert list(find(["-"])) == [Source("-")]
    with pytest.raises(CommandError, match="only once"):
        find(["-", "-"])
