"""Label Studio's export, as it writes it."""

from tables import check_stream, held, write

from modiste.data.manifest import Manifest


def task(number, image, *annotations):
    return {"id": number, "data": {"image": image}, "annotations": list(annotations)}


def chosen(*words, name="styles", **more):
    return {"result": [{"from_name": name, "type": "choices", "value": {"choices": list(words)}}], **more}


def test_label_studio(tmp_path):
    tasks = [
        task(1, "/data/upload/3/a.jpg", chosen("casual", "blue")),
        task(
            2,
            "/data/local-files/?d=photos%2Fb.jpg",
            chosen("sport", created_at="2024-01-01"),
            chosen("red", created_at="2024-02-01"),
        ),
        task(3, "c.jpg", chosen("red", was_cancelled=True)),
        task(4, "d.jpg"),
    ]
    path = write(tmp_path, "export.json", tasks)
    manifest = Manifest.read(path)
    assert held(manifest) == {
        "upload/3/a.jpg": {"casual", "blue"},
        "photos/b.jpg": {"red"},
        "c.jpg": None,
        "d.jpg": None,
    }
    assert any("newest" in note for note in manifest.notes)
    check_stream(path)
