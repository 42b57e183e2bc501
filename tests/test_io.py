import pytest

from gazepipe.errors import UserError
from gazepipe.io import atomic, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(IsADirectoryError), atomic(path) as partial:
        partial.write_text("half") and tmp_path.read_text()
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("old", "new"):
        with atomic(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_bad_json_is_named(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"bad\.json"):
        read_json(path)
    with pytest.raises(UserError, match=r"none\.json"):
        read_json(tmp_path / "none.json")
