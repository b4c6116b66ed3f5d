"""Laws of the walk through folders: each file once, however many links lead to it, and an end."""

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lungseg.imaging.walk import walk

FOLDERS = (".", "a", "a/b", "a/b/c", "d", "d/e")
LINKS = st.dictionaries(
    st.tuples(st.sampled_from(FOLDERS), st.sampled_from("xy")),
    st.sampled_from([*FOLDERS, "..", "../far", "../far/deep"]),
    max_size=8,
)


def found(root: Path) -> list[str]:
    return [os.path.relpath(here / name, root) for here, names in walk(root) for name in names]


@settings(deadline=None, max_examples=50)
@given(links=LINKS)
def test_each_file_is_met_once_and_by_its_own_name(links: dict[tuple[str, str], str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        for name in (*FOLDERS, "../far", "../far/deep", ".hidden"):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / "file").touch()
        (root / ".file").touch()
        for (place, name), target in links.items():
            (root / place / name).symlink_to(root / target)
        names = found(root)
        inside = [os.path.normpath(f"{name}/file") for name in FOLDERS]
        assert sorted(names[: len(inside)]) == sorted(inside)
        linked = sorted(os.path.relpath(os.path.realpath(root / name), root.resolve()) for name in names[len(inside) :])
        reached = {"../far": ["../far/deep/file", "../far/file"], "../far/deep": ["../far/deep/file"]}
        assert linked == next((files for target, files in reached.items() if target in links.values()), [])


def test_what_is_left_out_is_not_reached_by_a_link(tmp_path: Path) -> None:
    for name in ("a/one", "out/sub/two"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "out")
    assert [str((here / name).relative_to(tmp_path)) for here, names in walk(tmp_path, [tmp_path / "out"]) for name in names] == [
        "a/one"
    ]
