"""`modiste check` on a small folder with one of every fault, and `--fix`, which mends it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from PIL import Image

from modiste.audit.findings import Cluster, Contradiction, _badness, audit, differing, findings_to_dict
from modiste.audit.label_stats import associate, interval_width
from modiste.audit.near_duplicates import find_near_duplicates
from modiste.audit.page import summary_lines, write_check_page
from modiste.audit.repair import repair
from modiste.audit.thumbnails import make_thumbnails
from modiste.config import DataConfig
from modiste.data.manifest import Manifest
from modiste.labels import UNKNOWN

SETS = 'name = "s"\n[[groups]]\nname = "style"\nlabels = ["sports", "<b>casual</b>"]\n'
SETS += '[[groups]]\nname = "garment"\nexclusive = true\nlabels = ["coat", "dress"]\n'
HEAD = "image,split,group,sports,<b>casual</b>,coat,dress\n"
ROWS = """a.jpg,test,g1,1,0,1,0
a-copy.png,train,,0,0,1,0
b.jpg,val,g1,1,,0,1
b-crop.jpg,train,g1,1,,0,1
c.jpg,train,g2,0,1,1,1
d.jpg,train,g2,0,1,0,0
d-flip.jpg,test,,0,1,0,1
gone.jpg,train,,0,1,0,1
torn.jpg,train,,0,1,0,1
tiny.jpg,train,,0,1,0,1
blank.jpg,train,,0,1,0,1
long.jpg,train,,0,1,0,1
e.jpg,train,,0,1,0,1
e.jpg,train,,0,0,0,1
"""


def picture(seed: int, size=(240, 300)) -> Image.Image:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 7, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def made(tmp_path) -> Path:
    """A manifest with every fault."""
    for seed, name in enumerate("abcde"):
        picture(seed).save(tmp_path / f"{name}.jpg", quality=92)
    Image.open(tmp_path / "a.jpg").save(tmp_path / "a-copy.png")
    Image.open(tmp_path / "b.jpg").crop((8, 0, 240, 290)).save(tmp_path / "b-crop.jpg")
    Image.open(tmp_path / "d.jpg").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "d-flip.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "c.jpg").read_bytes()[:3000])
    picture(8, (40, 90)).save(tmp_path / "tiny.jpg")
    Image.new("RGB", (300, 300), (252, 253, 250)).save(tmp_path / "blank.jpg")
    picture(9, (700, 150)).save(tmp_path / "long.jpg")
    (tmp_path / "photos.csv").write_text(HEAD + ROWS)
    (tmp_path / "set.toml").write_text(SETS)
    return tmp_path / "photos.csv"


@pytest.fixture
def found(made):
    """Manifest and findings."""
    manifest = Manifest.read(made, DataConfig(label_set=str(made.with_name("set.toml"))), strict=False)
    paths = [manifest.photo(k) for k in range(len(manifest))]
    kept = made.with_name("kept")
    prints = make_thumbnails(paths, kept, workers=2)
    return manifest, audit(manifest, prints, find_near_duplicates(prints, paths, kept, workers=2))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_every_fault_is_found_and_nothing_else(found):
    manifest, findings = found
    name = manifest.frame["id"].to_list()
    assert [name[k] for k in findings.missing] == ["gone.jpg"]
    assert [name[k] for k in findings.unreadable] == ["torn.jpg"]
    assert "truncated" in findings.unreadable[8]
    assert {name[k]: size for k, size in findings.tiny.items()} == {"tiny.jpg": (40, 90)}
    assert [name[k] for k in findings.blank] == ["blank.jpg"]
    assert {name[k]: size for k, size in findings.odd_shaped.items()} == {"long.jpg": (700, 150)}
    assert findings.repeated == [(12, 13)]
    clusters = [(c.kind, [name[k] for k in c.photos], c.parts, c.conflicts) for c in findings.clusters]
    assert clusters == [
        ("exact", ["a.jpg", "a-copy.png"], ("test", "train"), ("sports",)),
        ("flip", ["d.jpg", "d-flip.jpg"], ("test", "train"), ("dress",)),
        ("near", ["b.jpg", "b-crop.jpg"], ("val", "train"), ()),
        ("exact", ["e.jpg", "e.jpg"], ("train",), ("<b>casual</b>",)),
    ]
    assert findings.straddling_groups == {"g1": {"test": 1, "val": 1, "train": 1}}
    assert findings.contradictions == [Contradiction(4, "garment", ("coat", "dress")), Contradiction(5, "garment", ())]
    assert findings.crowded == 0
    json.dumps(findings_to_dict(manifest, findings), allow_nan=False)


def test_unknown_beside_yes_or_no_is_no_conflict():
    targets = np.array([[1, 0, -1, 1, 0], [-1, -1, -1, 0, 0]], np.int8)
    assert differing(targets).tolist() == differing(targets[::-1]).tolist() == [3]


def test_labels_are_counted_and_associated_as_by_hand(found):
    manifest, findings = found
    casual = findings.labels[1]
    assert (casual.id, casual.group, casual.positives, casual.known) == ("<b>casual</b>", "style", 9, 12)
    assert casual.parts == {"test": 1, "train": 8, "val": 0}
    assert casual.frequencies == pytest.approx({"test": 0.5, "train": 0.8, "val": np.nan}, nan_ok=True)
    assert (casual.measured_on, casual.measured, casual.frequency) == ("test", 1, 0.75)
    for i in range(4):
        for j in range(4):
            one, other = manifest.targets[:, i], manifest.targets[:, j]
            both = (one != UNKNOWN) & (other != UNKNOWN)
            one, other = one[both], other[both]
            expected = other[one == 1].mean() if (one == 1).any() else np.nan
            assert findings.association.conditional[i, j] == pytest.approx(expected, nan_ok=True)
            if one.std() and other.std():
                assert findings.association.phi[i, j] == pytest.approx(np.corrcoef(one, other)[0, 1])
            independent = one.mean() * other.mean()
            expected = (one * other).mean() / independent if independent else np.nan
            assert findings.association.lift[i, j] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("n", [1, 7, 40, 1000])
def test_the_width_of_the_interval_is_wilsons(n):
    z, p = 1.959964, 0.5
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert interval_width(n) == pytest.approx(2 * half)


def test_labels_never_known_together_have_no_association():
    found = associate(np.array([[1, -1], [-1, 1], [0, -1]], np.int8))
    assert np.isnan(found.conditional[0, 1])
    assert np.isnan(found.phi[0, 1])


def test_a_repair_leaves_out_what_it_says_and_reads_strictly(found, tmp_path):
    manifest, findings = found
    before = contents(manifest.root)
    fixed = repair(manifest, findings)
    name = manifest.frame["id"].to_list()
    assert {(name[row.photo], row.reason, row.kept and name[row.kept]) for row in fixed.left_out} == {
        ("a-copy.png", "exact duplicate", 0),
        ("b-crop.jpg", "near duplicate in val", "b.jpg"),
        ("d.jpg", "near duplicate in test", "d-flip.jpg"),
        ("gone.jpg", "missing", None),
        ("torn.jpg", "unreadable", None),
        ("tiny.jpg", "tiny", None),
        ("blank.jpg", "blank", None),
        ("e.jpg", "the photo of another row", "e.jpg"),
    }
    fixed.manifest.write(tmp_path / "clean" / "clean.csv")
    clean = Manifest.read(tmp_path / "clean" / "clean.csv")
    assert clean.frame["id"].to_list() == ["a.jpg", "b.jpg", "c.jpg", "d-flip.jpg", "long.jpg", "e.jpg"]
    np.testing.assert_array_equal(
        clean.targets, [[-1, 0, 1, 0], [1, -1, 0, 1], [0, 1, -1, -1], [0, 1, 0, 1], [0, 1, 0, 1], [0, -1, 0, 1]]
    )
    assert all(clean.photo(k).is_file() for k in range(len(clean)))
    assert contents(manifest.root) == before


def test_copies_of_no_split_or_in_folds_stay(found):
    manifest, findings = found
    near = [cluster for cluster in findings.clusters if cluster.kind != "exact"]
    for splits in (["test", ""] * 7, [""] * 14):
        changed = manifest.with_column("split", splits).with_column("fold", list(range(14)))
        left_out = repair(changed, replace(findings, clusters=near, repeated=[])).left_out
        assert not [row.photo for row in left_out if "duplicate" in row.reason]


def test_copies_with_other_labels_come_first():
    def of(kind, *conflicts):
        return Cluster(kind, (0, 1), ("test", "train"), conflicts)

    plain, other = of("exact"), of("near", "sports")
    assert sorted([plain, other], key=_badness) == [other, plain]


def test_a_repaired_manifest_has_nothing_left_to_repair(found, tmp_path):
    manifest, findings = found
    fixed = repair(manifest, findings).manifest
    paths = [fixed.photo(k) for k in range(len(fixed))]
    prints = make_thumbnails(paths, tmp_path / "kept", workers=2)
    alike = find_near_duplicates(prints, paths, tmp_path / "kept", workers=2)
    again = audit(fixed, prints, alike)
    sizes = {side: list(audit(fixed, prints, alike, min_side=side).tiny.values()) for side in (150, 151)}
    assert sizes == {150: [], 151: [(700, 150)]}
    lines = {line.name: line.count for line in summary_lines(fixed, again)}
    assert {name for name, count in lines.items() if count} == {"odd shape", "torn groups", "rare labels"}
    assert repair(fixed, again).left_out == []


def test_the_page_shows_what_was_found_and_asks_nothing_of_the_network(found, tmp_path):
    manifest, findings = found
    page = Page(write_check_page(tmp_path / "report", manifest, findings, repair(manifest, findings)))
    text = " ".join(page.texts)
    for word in ("<b>casual</b>", "gone.jpg", "truncated JPEG", "40 × 90", "g1", "near duplicate in val", "mirrored"):
        assert word in text
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) >= 11
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?:|//\w|url\(|@import", re.sub(r"data:image/[\w;,/+=]*", "", page.source))
    anchors = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert anchors <= {attributes.get("id") for _, attributes in page.tags}


def test_the_page_is_bounded(tmp_path):
    rows = "".join(f"{k}.jpg,{'train' if k % 2 else 'test'},g{k // 2},1\n" for k in range(4000))
    (tmp_path / "many.csv").write_text("image,split,group,sports\n" + rows)
    manifest = Manifest.read(tmp_path / "many.csv")
    paths = [manifest.photo(k) for k in range(len(manifest))]
    prints = make_thumbnails(paths, tmp_path / "kept", workers=2)
    findings = audit(manifest, prints, find_near_duplicates(prints, paths, tmp_path / "kept", workers=2))
    assert len(findings.straddling_groups) == 2000
    page = write_check_page(tmp_path, manifest, findings).read_text(encoding="utf-8")
    assert len(page) < 50_000
    assert "And 1,970 more, see <code>check.json</code>" in page
    assert "No photo is there" in page
    assert len(repair(manifest, findings).manifest) == 4000  # nothing is missing where nothing was to be there


def test_real_photos_have_their_known_near_duplicates(shared, tmp_path):
    manifest = Manifest.read(shared / "data" / "ccp" / "labels.csv")
    named = manifest.frame["id"].to_list()
    some = [k for k, name in enumerate(named) if k % 6 == 0 or name[-8:-4] in ("0025", "1707", "0404", "1075")]
    part = manifest.select(np.array(some))
    paths = [part.photo(k) for k in range(len(part))]
    prints = make_thumbnails(paths, tmp_path, workers=2)
    findings = audit(part, prints, find_near_duplicates(prints, paths, tmp_path, workers=2))
    exact = [[Path(part.frame["id"][k]).stem for k in c.photos] for c in findings.clusters if c.kind == "exact"]
    assert exact == [["0025", "1707"]]
    assert findings.of_kind("exact")[0].conflicts == ("bracelet",)
    assert len(findings.clusters) < 5
    assert not (findings.missing or findings.unreadable or findings.tiny or findings.blank)
    assert findings.labels[0].measured_on == "all"
