"""iMaterialist's annotations."""

from tables import check_stream, held, write

from modiste.data.manifest import Manifest


def test_imaterialist(tmp_path):
    content = {
        "images": [
            {"imageId": "1", "url": "http://x.example/1.jpg"},
            {"imageId": "2", "url": ["http://x.example/2.jpg"]},
        ],
        "annotations": [{"imageId": "1", "labelId": ["4", "9"]}],
    }
    path = write(tmp_path, "train.json", content)
    manifest = Manifest.read(path)
    assert manifest.frame["url"].to_list() == ["http://x.example/1.jpg", "http://x.example/2.jpg"]
    assert held(manifest) == {"1": {"4", "9"}, "2": None}
    check_stream(path)
