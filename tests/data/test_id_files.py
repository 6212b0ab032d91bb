import pytest

from proseco.base.errors import InputError
from proseco.data import id_files


def test_order_is_by_number_only_if_all_are():
    assert id_files.sorted_keys(["10", "9", "100"]) == ["9", "10", "100"]
    assert id_files.sorted_keys(["000010", "000009"]) == ["000009", "000010"]
    assert id_files.sorted_keys(["10", "9", "2008_1"]) == ["10", "2008_1", "9"]


def test_id_files_round_trip(tmp_path):
    path = tmp_path / "1/train.txt"
    id_files.write(path, ["10", "9", "300"], benchmark="coco", rule="uniform", fraction=0.05, seed=1)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# benchmark=coco rule=uniform fraction=0.05 seed=1 count=3 digest=")
    assert lines[1:] == ["9", "10", "300"]
    assert id_files.read(path) == ["9", "10", "300"]
    facts = id_files.read_facts(path)
    assert (facts["rule"], facts["seed"], facts["count"]) == ("uniform", "1", "3")
    with open(path) as file:
        assert [line.strip() for line in file if not line.startswith("#")] == ["9", "10", "300"]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as a Windows checkout has it
    assert id_files.read(path) == ["9", "10", "300"]
    id_files.write(path, [])
    assert id_files.read(path) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("2008_3\n", ""), "line 1: says count=3, but 2 ids follow"),
        (lambda text: text.replace("2008_3", "2008_4"), "line 1: the ids are not those"),
        (lambda text: text.replace("2008_3", "2008_2"), "line 4: id '2008_2' again, first in line 3"),
        (lambda text: text.replace("2008_3", ""), "line 4: a blank line"),
        (lambda text: text.partition("\n")[2], "line 1: expected"),
        (lambda text: "", "line 1: expected"),
        (lambda text: text.replace("count=3 ", ""), "line 1: expected"),
    ],
)
def test_tampered_id_files_name_file_and_line(tmp_path, change, words):
    path = tmp_path / "train.txt"
    id_files.write(path, ["2008_2", "2008_3", "000001"], seed=1)
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=rf"train\.txt', {words}"):
        id_files.read(path)


def test_missing_id_file(tmp_path):
    with pytest.raises(InputError, match=r"no id file '.*train\.txt'"):
        id_files.read(tmp_path / "train.txt")


def test_ids_and_facts_that_the_format_cannot_hold(tmp_path):
    for key in ("#1", "1 2", "", "1\n2", "caf\udce9"):
        with pytest.raises(InputError, match=r"x\.txt: no id file can hold the image key ['\"].*; expected UTF-8"):
            id_files.write(tmp_path / "x.txt", ["0", key])
    with pytest.raises(InputError, match=r"the id '1' comes twice"):
        id_files.write(tmp_path / "x.txt", ["2", "1", "1"])
    with pytest.raises(ValueError, match="single words"):
        id_files.write(tmp_path / "x.txt", ["1"], benchmark="mini coco")
    assert not (tmp_path / "x.txt").exists()


def test_an_id_file_of_an_editor_that_marks_utf_8(tmp_path):
    (tmp_path / "mine.txt").write_text("# mine\n7\n12\n", encoding="utf-8-sig")
    assert id_files.read(tmp_path / "mine.txt", header=False) == ["7", "12"]
