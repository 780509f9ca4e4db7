from pathlib import Path

from siglip_cli.text_lists import texts_given


def test_only_line_ends_end_a_text(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes("\ufeffa\x0cb\r\n\nc\u2028d\re".encode())
    assert texts_given(["given"], file, "--text") == ["given", "a\x0cb", "c\u2028d", "e"]
